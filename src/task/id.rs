//! Task ids.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The id of a task: 8 lower-case hex characters.
///
/// New ids begin with a letter, so that no id looks like a task number; ids of the ancestor may be all
/// digits and are read as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, example = "c4b1e09a")]
pub struct TaskId([u8; 8]);

/// A text that is no task id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no task id (8 hex characters)")]
pub struct BadTaskId(pub String);

impl TaskId {
    /// Before every id, in their order.
    pub const MIN: TaskId = TaskId([0; 8]);
    /// After every id, in their order.
    pub const MAX: TaskId = TaskId([u8::MAX; 8]);

    /// Cuts an id from a random UUID: its hex digits from the first letter on.
    ///
    /// `None` when the UUID has no letter early enough; draw another one then.
    #[must_use]
    pub fn cut(uuid: &uuid::Uuid) -> Option<Self> {
        let hex = uuid.simple().to_string();
        let first = hex.find(|c: char| c.is_ascii_alphabetic())?;
        hex.get(first..first + 8).and_then(|s| s.parse().ok())
    }

    /// Draws a new random UUID and the id that is cut from it.
    #[must_use]
    pub fn random() -> (uuid::Uuid, Self) {
        loop {
            let uuid = uuid::Uuid::new_v4();
            if let Some(id) = Self::cut(&uuid) {
                return (uuid, id);
            }
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("????????")
    }
}

impl FromStr for TaskId {
    type Err = BadTaskId;
    fn from_str(s: &str) -> Result<Self, BadTaskId> {
        let bytes: [u8; 8] = s.as_bytes().try_into().map_err(|_| BadTaskId(s.to_owned()))?;
        if bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            Ok(TaskId(bytes))
        } else {
            Err(BadTaskId(s.to_owned()))
        }
    }
}

impl TryFrom<String> for TaskId {
    type Error = BadTaskId;
    fn try_from(s: String) -> Result<Self, BadTaskId> {
        s.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> String {
        id.as_str().to_owned()
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_begin_with_a_letter_and_come_from_their_uuid() {
        for _ in 0..1000 {
            let (uuid, id) = TaskId::random();
            assert!(id.as_str().starts_with(|c: char| c.is_ascii_alphabetic()));
            assert!(uuid.simple().to_string().contains(id.as_str()));
        }
    }

    #[test]
    fn ids_of_the_ancestor_may_be_all_digits_but_nothing_else_passes() {
        assert!("12345678".parse::<TaskId>().is_ok());
        for bad in ["", "1234567", "123456789", "ABCDEF01", "../../ab", "abcdefgh", "ａbcdef0"] {
            assert_eq!(bad.parse::<TaskId>(), Err(BadTaskId(bad.to_owned())));
        }
    }
}
