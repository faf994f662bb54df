//! Octo's own secrets stay with Octo: the bot's token is in no artefact of it.

use std::path::Path;

use crate::fake::{Fault, TOKEN};
use crate::{ANN, Phone};

/// The token, its secret half, and the forms in which an address would hold it.
fn canaries() -> Vec<Vec<u8>> {
    let secret = TOKEN.split(':').nth(1).unwrap();
    let coded = TOKEN.replace(':', "%3A");
    [TOKEN, secret, &coded].iter().map(|c| c.as_bytes().to_vec()).collect()
}

fn search(what: &str, bytes: &[u8], found: &mut Vec<String>) {
    for canary in canaries() {
        if bytes.windows(canary.len()).any(|w| w == canary) {
            found.push(what.to_owned());
        }
    }
}

fn search_folder(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            search_folder(&path, found);
        } else if kind.is_file() {
            search(&path.display().to_string(), &std::fs::read(&path).unwrap(), found);
        }
    }
}

#[test]
fn the_token_is_in_no_file_answer_message_or_environment() {
    let phone = Phone::new(&[("OCTO_LOG", "trace"), ("TELEGRAM_RUN", "on")]);
    let world = &phone.world;
    // Every kind of error that holds an address with the token in it.
    for fault in [Fault::bad_gateway(), Fault::Reset, Fault::no_entities(), Fault::internal()] {
        phone.fake.fault("sendMessage", 1, fault);
    }
    phone.fake.fault("getUpdates", 1, Fault::Reset);
    phone.fake.fault("getUpdates", 1, Fault::conflict());
    let asking = world.bg(&format!("env; {} ask --choice yes --choice no 'What is the token?'", phone.octo_inside()));
    let (card, _) = phone.message("What is the token?");
    phone.fake.tap(ANN, card, "yes");
    world.ended(&asking);
    phone.fake.say(ANN, "/bg env; cat /proc/self/environ; echo $TELEGRAM_BOT_TOKEN; exit 3");
    phone.message("exit 3");
    phone.fake.say(ANN, "/status");
    phone.message("TELEGRAM_BOT_TOKEN");
    let running = world.bg("exec sleep 1000");
    world.until(&running, "running");
    let mut found = Vec::new();
    for pid in world.processes(&running) {
        for file in ["environ", "cmdline"] {
            search(&format!("/proc/{pid}/{file}"), &std::fs::read(format!("/proc/{pid}/{file}")).unwrap(), &mut found);
        }
    }
    assert!(!world.processes(&running).is_empty());
    for route in ["/status", "/background-agents", "/notices", "/metrics", "/openapi.json", "/owed?bridge=telegram"] {
        search(route, &world.get(route).body, &mut found);
    }
    for id in [&asking, &running] {
        search("logs", &world.get(&format!("/background-agents/{id}/logs")).body, &mut found);
    }
    search("octo status", &world.octo(&["status"]).out, &mut found);
    for call in phone.fake.calls() {
        search(&format!("{} {}", call.method, call.params), call.params.to_string().as_bytes(), &mut found);
    }
    search_folder(&world.octo_dir(), &mut found);
    assert_eq!(found, Vec::<String>::new());
}
