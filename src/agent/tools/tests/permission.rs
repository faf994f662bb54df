//! What needs approval.

use crate::agent::tools::policy::{Decision, Grants, Policy, Rule, Wanted, decide, denied_by_owner};
use crate::command::ActionRequest;

use super::*;

fn decision(tool: &str, class: Class, input: &Value, rule: Rule, grants: &Grants) -> Decision {
    let policy = Policy { shell: rule, network: Rule::Ask };
    decide(&Wanted { tool, class, input, folder: "/work" }, &policy, grants)
}

#[test]
fn only_effects_need_anything() {
    for tool in TOOLS {
        let input = serde_json::from_str(tool.example).unwrap();
        let policy = Policy { shell: Rule::Deny, network: Rule::Deny };
        let wanted = Wanted { tool: tool.name, class: tool.class, input: &input, folder: "/work" };
        let decision = decide(&wanted, &policy, &Grants::default());
        let free = matches!(decision, Decision::Allow);
        assert_eq!(free, !matches!(tool.name, "shell" | "dispatch_background"), "{}", tool.name);
    }
}

#[test]
fn shells_go_by_the_policy() {
    let (none, input) = (Grants::default(), json!({"command": "rm -r x"}));
    let ask = decision("shell", Class::Effect, &input, Rule::Ask, &none);
    let request = ActionRequest { tool: "shell".into(), input: input.clone(), folder: "/work".into() };
    assert_eq!(ask, Decision::Ask(request), "the owner is asked about exactly this");
    assert_eq!(decision("shell", Class::Effect, &input, Rule::Allow, &none), Decision::Allow);
    let Decision::Deny(why) = decision("shell", Class::Effect, &input, Rule::Deny, &none) else { panic!("not denied") };
    assert!(why.starts_with("Not run:") && why.contains("escalate_question"), "{why}");
}

#[test]
fn a_grant_is_for_one_tool_and_a_denial_wins() {
    let mut grants = Grants::default();
    grants.grant("shell");
    let input = json!({"task_type": "process", "command": "ls"});
    assert_eq!(decision("shell", Class::Effect, &input, Rule::Ask, &grants), Decision::Allow);
    assert!(matches!(decision("dispatch_background", Class::Effect, &input, Rule::Ask, &grants), Decision::Ask(_)));
    assert!(matches!(decision("web__fetch", Class::Effect, &input, Rule::Allow, &grants), Decision::Ask(_)));
    assert!(matches!(decision("shell", Class::Effect, &input, Rule::Deny, &grants), Decision::Deny(_)));
    let kept: Grants = serde_json::from_value(serde_json::to_value(&grants).unwrap()).unwrap();
    assert!(kept.has("shell") && !kept.has("shell2"));
}

#[test]
fn a_dispatched_agent_asks_for_itself() {
    let input = json!({"task_type": "agent", "prompt": "p"});
    assert_eq!(decision("dispatch_background", Class::Effect, &input, Rule::Deny, &Grants::default()), Decision::Allow);
}

#[test]
fn a_denial_is_a_result_that_a_model_can_use() {
    assert!(denied_by_owner("").starts_with("Not run: the owner denied this. Nothing"));
    assert!(denied_by_owner(" use make ").contains("They said: use make Nothing"));
}
