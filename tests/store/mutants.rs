//! 500 damaged records among healthy ones, in every start that a seed can think of.

use super::*;

/// Small, fast and the same everywhere (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % sides
    }
}

fn mutate(dice: &mut Dice, healthy: &[u8]) -> Vec<u8> {
    let mut bytes = healthy.to_vec();
    let len = bytes.len();
    match dice.roll(9) {
        0 => bytes.truncate(dice.roll(len)),
        1 => (0..=dice.roll(4)).for_each(|_| bytes[dice.roll(len)] ^= 1 << dice.roll(8)),
        2 => bytes = (0..dice.roll(3000)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect(),
        3 => return change_type(dice, healthy),
        4 => bytes = [b"{\"x\":", "[".repeat(100 + dice.roll(100_000)).as_bytes()].concat(),
        5 => {
            let nines = "9".repeat(1 + dice.roll(400));
            return with_value(dice, healthy, &nines);
        }
        6 => {
            let power = format!("{}1e{}", ["", "-"][dice.roll(2)], dice.roll(700));
            return with_value(dice, healthy, &power);
        }
        7 => bytes.insert(dice.roll(len), [0xff, 0xc0, 0x80, 0xed, 0][dice.roll(5)]),
        _ => {
            let (a, b) = (dice.roll(len), dice.roll(len));
            bytes.drain(a.min(b)..a.max(b));
        }
    }
    bytes
}

fn change_type(dice: &mut Dice, healthy: &[u8]) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(healthy).unwrap();
    let fields: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    let others =
        [json!(null), json!(-1), json!(1.5), json!("x"), json!([1]), json!({"a": 1}), json!(true), json!(u64::MAX)];
    value[&fields[dice.roll(fields.len())]] = others[dice.roll(others.len())].clone();
    serde_json::to_vec(&value).unwrap()
}

/// Puts a number that JSON values cannot hold in the place of some field's value.
fn with_value(dice: &mut Dice, healthy: &[u8], number: &str) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(healthy).unwrap();
    let fields: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    value[&fields[dice.roll(fields.len())]] = json!("@@@");
    serde_json::to_string(&value).unwrap().replace("\"@@@\"", number).into_bytes()
}

#[test]
fn five_hundred_mutants_cost_no_healthy_task_and_are_all_kept() {
    for seed in [1, 0x0C70] {
        let mut dice = Dice(seed);
        let world = World::new();
        let mut healthy: BTreeMap<TaskId, Task> = (0..50).map(|n| (id(n), task(n))).collect();
        save(&world.open(), &healthy.values().map(write).collect::<Vec<_>>());
        let (mut bad, mut newer) = (BTreeMap::new(), BTreeSet::new());
        for n in 1000..1250 {
            let original = if n % 2 == 0 { task(n) } else { ended(n) };
            let bytes = mutate(&mut dice, &serde_json::to_vec_pretty(&original).unwrap());
            let name = format!("{}.json", id(n));
            match parse_record(id(n), &bytes) {
                Ok(still) => drop(healthy.insert(id(n), still)),
                Err(why) if why.starts_with("a newer Octo") => drop(newer.insert(name.clone())),
                Err(_) => drop(bad.insert(format!("tasks/{name}"), bytes.clone())),
            }
            // An oracle of its own: what is not JSON at all cannot be healthy.
            if serde_json::from_slice::<Value>(&bytes).is_err() {
                assert!(bad.contains_key(&format!("tasks/{name}")));
            }
            world.put(&name, bytes);
        }
        assert!(bad.len() > 150, "seed {seed} makes too few bad ones: {}", bad.len());

        let (store, loaded) = world.boot();
        let seen: BTreeSet<TaskId> =
            loaded.live.iter().map(|t| t.id).chain(loaded.ended.iter().map(|s| s.id)).collect();
        assert_eq!(seen, healthy.keys().copied().collect());
        for (id, task) in &healthy {
            assert_eq!(store.read(*id).unwrap(), *task);
        }
        assert_eq!(loaded.problems.len(), bad.len() + newer.len());
        for problem in loaded.problems.iter().filter(|p| !p.kept.starts_with(world.tasks())) {
            let bytes = bad.remove(&problem.file).unwrap_or_else(|| panic!("not bad, or told twice: {problem}"));
            assert!(fs::read(&problem.kept).unwrap() == bytes, "{problem}");
        }
        assert_eq!(bad, BTreeMap::new());
        let again = world.boot().1;
        assert_eq!((again.problems.len(), again.live.len()), (newer.len(), loaded.live.len()));
    }
}

#[test]
fn no_damage_to_the_index_costs_or_invents_a_task() {
    let mut dice = Dice(7);
    let world = World::new();
    save(&world.open(), &(0..40).map(|n| write(&ended(n))).collect::<Vec<_>>());
    let whole = || (0..40).map(id).collect::<BTreeSet<_>>();
    drop(world.boot());
    let file = world.octo().join("index.jsonl");
    let good = fs::read(&file).unwrap();
    for _ in 0..150 {
        let mut bytes = good.clone();
        let len = bytes.len();
        match dice.roll(4) {
            0 => bytes.truncate(dice.roll(len)),
            1 => bytes[dice.roll(len)] ^= 1 << dice.roll(8),
            2 => bytes = (0..dice.roll(5000)).map(|_| u8::try_from(dice.roll(256)).unwrap()).collect(),
            _ => bytes.splice(dice.roll(len).., std::iter::repeat_n(0, 4096)).for_each(drop),
        }
        fs::write(&file, bytes).unwrap();
        let (_, loaded) = world.boot();
        // Two whose numbers became the same are handed over whole.
        let seen = loaded.ended.iter().map(|s| s.id).chain(loaded.live.iter().map(|t| t.id));
        assert_eq!(seen.collect::<BTreeSet<_>>(), whole());
        assert!(loaded.live.iter().all(|task| task.status.is_ended()));
        assert_eq!((loaded.ended.len() + loaded.live.len(), loaded.problems.len()), (40, 0));
    }
}
