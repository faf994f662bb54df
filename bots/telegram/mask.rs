//! Keeps secrets out of what is sent: those that the daemon knows, and words that look like a bot's token.

/// What the reader sees instead.
const MASKED: &str = "•••";

/// The shortest secret that is looked for: a shorter one would be found everywhere.
const SHORTEST: usize = 8;

/// The secrets of this daemon. `Debug` does not show them.
#[derive(Clone, Default)]
pub(crate) struct Mask {
    secrets: Vec<String>,
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mask({} secrets)", self.secrets.len())
    }
}

impl Mask {
    /// Looks for these secrets: the bot's token, the keys of model providers.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut secrets: Vec<String> =
            secrets.into_iter().map(str::trim).filter(|s| s.len() >= SHORTEST).map(str::to_owned).collect();
        // One may be the beginning of another.
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        Mask { secrets }
    }

    /// The text without them.
    pub(crate) fn apply(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for secret in &self.secrets {
            if out.contains(secret.as_str()) {
                out = out.replace(secret.as_str(), MASKED);
            }
        }
        without_tokens(&out)
    }
}

/// `123456789:AAE...`: digits, a colon, and at least 30 letters of base64url.
fn without_tokens(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(colon) = rest.find(':') {
        let (before, behind) = (&rest[..colon], &rest[colon + 1..]);
        let digits = before.bytes().rev().take_while(u8::is_ascii_digit).count();
        let secret = behind.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).count();
        if digits >= 6 && secret >= 30 {
            out.push_str(&before[..before.len() - digits]);
            out.push_str(MASKED);
            rest = &behind[secret..];
        } else {
            out.push_str(&rest[..=colon]);
            rest = behind;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_secrets_and_tokens_of_bots_are_not_shown() {
        let mask = Mask::new(["hunter2-hunter2", "", "abc", "hunter2-hunter2-longer"]);
        assert_eq!(mask.apply("x hunter2-hunter2-longer y hunter2-hunter2 abc"), "x ••• y ••• abc");
        let token = format!("123456789:AAE{}", "x-Y_".repeat(8));
        assert_eq!(
            mask.apply(&format!("https://api.telegram.org/bot{token}/getMe")),
            "https://api.telegram.org/bot•••/getMe"
        );
        for fine in ["10:30", "a:b", ":", "1234567:short", "é:日本", "2026-11-20T10:00:00.000Z", ""] {
            assert_eq!(mask.apply(fine), fine);
        }
        assert_eq!(format!("{mask:?}"), "Mask(2 secrets)");
    }
}
