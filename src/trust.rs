//! STAND-IN
use std::path::Path;
pub struct Trust {
    pub mark: String,
}
impl Trust {
    pub fn load(_ws: &crate::workspace::Workspace, _data: &Path) -> std::io::Result<Trust> {
        Ok(Trust { mark: "m".into() })
    }
}
pub fn trust_all(_ws: &crate::workspace::Workspace, _data: &Path) -> std::io::Result<Vec<String>> {
    Ok(vec![])
}
