//! STAND-IN
use crate::command::SettingInfo;
use std::collections::HashMap;
pub struct Config {
    pub max_concurrent: usize,
    pub claude_args: String,
    pub log_quota: u64,
    pub settings: Vec<SettingInfo>,
    pub warnings: Vec<String>,
}
impl Config {
    pub fn load(env: &HashMap<String, String>, _ws: &crate::workspace::Workspace, _t: &crate::trust::Trust) -> Config {
        Config {
            max_concurrent: env.get("BG_MAX_CONCURRENT").and_then(|v| v.parse().ok()).unwrap_or(3),
            claude_args: env.get("ADDITIONAL_CLAUDE_ARGS").cloned().unwrap_or_default(),
            log_quota: 4 << 30,
            settings: vec![],
            warnings: vec![],
        }
    }
}
pub fn secret_names() -> impl Iterator<Item = &'static str> {
    ["TELEGRAM_BOT_TOKEN"].into_iter()
}
