//! How long a start takes with 100,000 ended tasks, against reading every record once.

use super::*;
use std::time::Instant;

#[test]
#[ignore = "takes long: run it alone, with --release --nocapture"]
fn start_with_100_000_ended_tasks() {
    const N: u32 = 100_000;
    let world = World::new();
    drop(world.open());
    for n in 0..N {
        fs::write(world.record(id(n).as_str()), serde_json::to_vec_pretty(&ended(n)).unwrap()).unwrap();
    }
    let (rebuilt, from_records) = timed(|| world.boot().1.ended.len());
    assert_eq!(rebuilt, N as usize);
    let mut best = (f64::MAX, f64::MAX);
    for _ in 0..5 {
        let (count, every) = timed(|| {
            let names: Vec<_> = fs::read_dir(world.tasks()).unwrap().map(|e| e.unwrap().path()).collect();
            names.iter().filter(|p| serde_json::from_slice::<Task>(&fs::read(p).unwrap()).is_ok()).count()
        });
        assert_eq!(count, N as usize);
        let ((_, loaded), start) = timed(|| world.boot());
        assert_eq!(loaded.ended.len(), N as usize);
        best = (best.0.min(every), best.1.min(start));
    }
    let kib = |field: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find(|l| l.starts_with(field)).unwrap_or("?").to_owned()
    };
    println!("rebuild {from_records:.3} s; every record once {:.3} s; start with index {:.3} s", best.0, best.1);
    println!("ratio {:.3}; {}; {}", best.1 / best.0, kib("VmRSS"), kib("VmHWM"));
    assert!(best.1 <= 0.5 * best.0);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begin = Instant::now();
    let out = work();
    (out, begin.elapsed().as_secs_f64())
}
