//! The list of what an agent means to do. It is a plain value: applying the same calls again gives the same list.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::ToolError;
use super::call::TodoUpdate;

/// The most items of one list.
pub const TODOS_MAX: usize = 1000;

/// The longest description, in bytes.
const DESCRIPTION_MAX: usize = 2000;

/// The list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todos {
    items: Vec<Todo>,
}

/// An item of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Todo {
    /// `todo_1`, `todo_2`, ...
    pub id: String,
    /// What is to be done.
    pub description: String,
    /// How far it is.
    pub status: Status,
}

/// How far an item is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Not begun.
    #[default]
    Pending,
    /// Begun.
    InProgress,
    /// Done.
    Completed,
}

impl Todos {
    /// The items, oldest first.
    #[must_use]
    pub fn items(&self) -> &[Todo] {
        &self.items
    }

    /// Adds items.
    ///
    /// # Errors
    /// When the list would be too long; nothing was added then.
    pub fn create(&mut self, descriptions: &[String]) -> Result<String, ToolError> {
        if self.items.len() + descriptions.len() > TODOS_MAX {
            return Err(ToolError::new(format!(
                "the list has {} items and may have {TODOS_MAX}: add fewer, larger ones",
                self.items.len()
            )));
        }
        if let Some(long) = descriptions.iter().find(|d| d.len() > DESCRIPTION_MAX) {
            let len = long.len();
            return Err(ToolError::new(format!("a description has {len} bytes: use at most {DESCRIPTION_MAX}")));
        }
        for description in descriptions {
            let id = format!("todo_{}", self.items.len() + 1);
            self.items.push(Todo { id, description: description.clone(), status: Status::Pending });
        }
        Ok(self.list())
    }

    /// Sets the status of items.
    ///
    /// # Errors
    /// When there is no item of one of the ids; nothing was changed then.
    pub fn update(&mut self, updates: &[TodoUpdate]) -> Result<String, ToolError> {
        let unknown = updates.iter().find(|u| self.items.iter().all(|item| item.id != u.id));
        if let Some(unknown) = unknown {
            let id = &unknown.id;
            return Err(ToolError::new(format!("there is no item `{id}`, and nothing was changed.\n{}", self.list())));
        }
        for update in updates {
            if let Some(item) = self.items.iter_mut().find(|item| item.id == update.id) {
                item.status = update.status;
            }
        }
        Ok(self.list())
    }

    /// The list as a model reads it.
    #[must_use]
    pub fn list(&self) -> String {
        if self.items.is_empty() {
            return "The list is empty: add to it with create_todos.".to_owned();
        }
        let open = self.items.iter().filter(|item| item.status != Status::Completed).count();
        let mut text = format!("{} items, {open} of them open:\n", self.items.len());
        for item in &self.items {
            let mark = match item.status {
                Status::Pending => "[ ]",
                Status::InProgress => "[~]",
                Status::Completed => "[x]",
            };
            let _ = writeln!(text, "{mark} {}: {}", item.id, item.description);
        }
        text
    }
}
