//! Random clusters: what the model's tables and the pipeline make of random packets is compared with the written rules,
//! and tables that grew change by change with tables made at once.
//!
//! `MILLRACE_CASES` sets the number of clusters, `MILLRACE_SEED` the first of their numbers.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod drive;
mod reference;
mod tables;
mod world;

use drive::Driver;
use reference::{Expected, Outcome, continued, expected};
use world::{Packet, Random, World};

const CASES: u64 = 10_000;
/// Packets for each cluster, and how many connections the first of them are repeated as.
const PACKETS: usize = 24;
const REPEATED: usize = 4;
const CONNECTIONS: usize = 64;
/// The first source port of connections that are taken up again.
const FIRST_PORT: u16 = 20_000;
/// Of a larger set somebody may be left out by chance.
const ALL_ARE_HIT: usize = 4;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    let first = number("MILLRACE_SEED", 1);
    first..first + number("MILLRACE_CASES", default)
}

#[test]
fn packets_go_where_the_written_rules_say() {
    let mut seen = [0_usize; 4];
    for seed in seeds(CASES) {
        let mut random = Random::new(seed);
        let world = World::any(&mut random);
        let mut driver = Driver::new(world.model().compile(), seed);
        for number in 0..PACKETS {
            let packet = Packet::any(&mut random, &world);
            let wanted = expected(&world, &packet);
            let times = if number < REPEATED && wanted.outcomes.len() > 1 { CONNECTIONS } else { 1 };
            let met: Vec<Outcome> = (0..times).map(|_| driver.run(&packet)).collect();
            if let Err(what) = compare(&wanted, &met) {
                panic!("cluster {seed}: {what}\n{packet:?}\nwanted {wanted:?}\nmet {met:?}\n{world:#?}");
            }
            seen[kind(&wanted)] += 1;
        }
    }
    println!("sent on {}, with a choice {}, refused {}, dropped {}", seen[0], seen[1], seen[2], seen[3]);
    let packets = seen.iter().sum::<usize>();
    assert!(seen.iter().all(|&count| count * 25 > packets), "every outcome is frequent: {seen:?}");
}

fn compare(wanted: &Expected, met: &[Outcome]) -> Result<(), String> {
    if let Some(other) = met.iter().find(|outcome| !wanted.outcomes.contains(outcome)) {
        return Err(format!("{other:?} is none of what the rules allow"));
    }
    if wanted.sticks {
        // Who is refused is bound to nobody.
        let mut bound = met.iter().skip_while(|outcome| **outcome == Outcome::Refused);
        let first = bound.next();
        let moved = bound.find(|outcome| Some(*outcome) != first);
        return moved.map_or(Ok(()), |moved| Err(format!("{moved:?} in spite of affinity")));
    }
    let left_out = wanted.outcomes.iter().find(|outcome| !met.contains(outcome));
    match left_out {
        Some(outcome) if met.len() == CONNECTIONS && wanted.outcomes.len() <= ALL_ARE_HIT => {
            Err(format!("{outcome:?} never happens"))
        }
        _ => Ok(()),
    }
}

fn kind(wanted: &Expected) -> usize {
    match wanted.outcomes[..] {
        [Outcome::Leaves { .. }] => 0,
        [Outcome::Refused] => 2,
        [Outcome::Silence(_)] => 3,
        _ => 1,
    }
}

#[test]
fn flows_stay_where_they_are_until_their_endpoint_is_gone() {
    const UDP: u8 = 17;
    let mut moved = 0;
    for seed in seeds(CASES / 5) {
        let mut random = Random::new(seed);
        let mut world = World::any(&mut random);
        let mut model = world.model();
        let mut driver = Driver::new(model.compile(), seed);
        let packets = (0..2 * PACKETS).map(|_| Packet { protocol: UDP, ..Packet::any(&mut random, &world) });
        let packets: Vec<(u16, Packet)> = (FIRST_PORT..).zip(packets).collect();
        let met: Vec<Outcome> = packets.iter().map(|(port, packet)| driver.run_from(*port, packet)).collect();
        let before = world.clone();
        for _ in 0..random.between(1, 3) {
            world.change(&mut random, &mut model);
            driver.tables = model.compile();
        }
        for ((port, packet), met) in packets.iter().zip(met) {
            let wanted = continued(&before, &world, packet, &met);
            let next = driver.run_from(*port, packet);
            assert!(
                wanted.outcomes.contains(&next),
                "cluster {seed}: {packet:?}\nmet {met:?}, then {next:?}, wanted {wanted:?}\n{before:#?}\n{world:#?}"
            );
            moved += usize::from(next != met && matches!(met, Outcome::Leaves { .. }));
        }
    }
    println!("{moved} flows were moved");
    assert!(moved > 0, "flows are moved at all");
}

#[test]
fn change_by_change_leads_to_the_tables_that_are_made_at_once() {
    for seed in seeds(CASES / 10) {
        let mut random = Random::new(seed);
        let mut world = World::any(&mut random);
        let mut model = world.model();
        let mut current = model.compile();
        for step in 0..random.between(1, 10) {
            let before = current.clone();
            let served_before = tables::served(&model, &before);
            world.change(&mut random, &mut model);
            if random.chance(30) {
                world.change(&mut random, &mut model);
            }
            current = model.compile();
            let due = tables::epoch_is_due(&before, &served_before, &current);
            let raised = current.epoch != before.epoch;
            assert_eq!(raised, due, "cluster {seed}, step {step}: whether the epoch rises\n{world:#?}");
            let mut at_once = world.model();
            let fresh = at_once.compile();
            let show = |model, tables| format!("{:#?}", tables::shown(model, tables));
            let (grown, made) = (show(&model, &current), show(&at_once, &fresh));
            assert_eq!(grown, made, "cluster {seed}, step {step}\n{world:#?}");
        }
    }
}
