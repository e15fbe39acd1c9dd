//! The scripts' own text, in a Lua of its own with a Redis of a few tables and a clock that we set.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use mlua::{Function, Lua, LuaSerdeExt as _, MultiValue, Table, Value as LuaValue};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::model::Operation;
use crate::resilience::pace::{Ask, Lane, Pace};

#[derive(Default)]
struct Server {
    now: Cell<i64>,
    strings: RefCell<BTreeMap<String, String>>,
    hashes: RefCell<BTreeMap<String, BTreeMap<String, String>>>,
    sets: RefCell<BTreeMap<String, BTreeMap<String, i64>>>,
}

impl Server {
    fn call(&self, lua: &Lua, command: &[String]) -> mlua::Result<LuaValue> {
        let word = |index: usize| command[index].clone();
        let mut sets = self.sets.borrow_mut();
        let mut hashes = self.hashes.borrow_mut();
        match command[0].as_str() {
            "TIME" => {
                let now = self.now.get();
                return lua.to_value(&[(now / 1_000_000).to_string(), (now % 1_000_000).to_string()]);
            }
            "GET" => return lua.to_value(&self.strings.borrow().get(&word(1)).cloned()).map(nil_is_false),
            "SET" => drop(self.strings.borrow_mut().insert(word(1), word(2))),
            "HGETALL" => {
                let flat = hashes.entry(word(1)).or_default().iter().flat_map(|(k, v)| [k.clone(), v.clone()]);
                return lua.to_value(&flat.collect::<Vec<_>>());
            }
            "HSET" => drop(hashes.entry(word(1)).or_default().insert(word(2), word(3))),
            "HDEL" => command[2..].iter().for_each(|field| {
                hashes.entry(word(1)).or_default().remove(field);
            }),
            "ZREM" => {
                let removed = sets.entry(word(1)).or_default().remove(&word(2));
                return Ok(LuaValue::Integer(removed.is_some().into()));
            }
            "DEL" => drop(sets.remove(&word(1))),
            "ZADD" => drop(sets.entry(word(1)).or_default().insert(word(3), word(2).parse().unwrap())),
            "ZREMRANGEBYSCORE" => {
                let most: i64 = word(3).parse().unwrap();
                sets.entry(word(1)).or_default().retain(|_, score| *score > most);
            }
            "ZRANGE" => {
                let set = sets.entry(word(1)).or_default();
                let most = word(3).parse().unwrap_or(i64::MAX);
                let within = set.iter().filter(|(_, score)| **score <= most);
                let mut members: Vec<_> = within.map(|(member, score)| (*score, member.clone())).collect();
                members.sort();
                let flat = members.into_iter().flat_map(|(score, member)| [member, score.to_string()]);
                return lua.to_value(&flat.collect::<Vec<_>>());
            }
            "PEXPIRE" => {}
            other => panic!("the test's Redis has no {other}"),
        }
        Ok(LuaValue::Nil)
    }
}

/// As Redis does.
fn nil_is_false(value: LuaValue) -> LuaValue {
    if value.is_nil() || value.is_null() { LuaValue::Boolean(false) } else { value }
}

fn script(lua: &Lua, server: &Rc<Server>, text: &str) -> Function {
    let server = server.clone();
    let call = lua.create_function(move |lua, words: MultiValue| {
        let words: Vec<String> = words.iter().map(|word| word.to_string().unwrap()).collect();
        server.call(lua, &words)
    });
    let decode = lua.create_function(|lua, text: String| lua.to_value(&serde_json::from_str::<Value>(&text).unwrap()));
    let (redis, cjson) = (lua.create_table().unwrap(), lua.create_table().unwrap());
    redis.set("call", call.unwrap()).unwrap();
    cjson.set("decode", decode.unwrap()).unwrap();
    lua.globals().set("redis", redis).unwrap();
    lua.globals().set("cjson", cjson).unwrap();
    lua.load(text).into_function().unwrap()
}

fn run(lua: &Lua, function: &Function, keys: &[&str], arguments: &[&str]) -> Vec<String> {
    lua.globals().set("KEYS", keys).unwrap();
    lua.globals().set("ARGV", arguments).unwrap();
    let answer: Table = function.call(()).unwrap();
    answer.sequence_values::<LuaValue>().map(|value| value.unwrap().to_string().unwrap()).collect()
}

fn random_rates(random: &mut StdRng) -> Rates {
    let mut rate = |most| Rate { requests: random.random_range(1..most), window: Duration::from_secs(2) };
    let (requests, uploads) = (rate(12), rate(5));
    Rates {
        requests: random.random_bool(0.8).then_some(requests),
        uploads: random.random_bool(0.5).then_some(uploads),
        upload_bytes: random.random_bool(0.5).then(|| random.random_range(1..5_000)),
    }
}

/// `asked` are the turns that were asked for lately.
fn random_step(random: &mut StdRng, asked: &[(Ask, u64)]) -> PaceStep {
    let operation = if random.random_bool(0.5) { Operation::Upload } else { Operation::List };
    let lane = if random.random_bool(0.3) { Lane::Bulk } else { Lane::Interactive };
    let ask = Ask { operation, lane, bytes: random.random_range(0..3_000) };
    match random.random_range(0..100) {
        0..2 => PaceStep::Look,
        2..4 => PaceStep::Throttled,
        4..6 => PaceStep::Pause(Duration::from_millis(random.random_range(0..1_000))),
        6..20 if !asked.is_empty() => {
            let (ask, id) = asked[asked.len() - 1 - random.random_range(0..asked.len().min(5))];
            match random.random_bool(0.5) {
                true => PaceStep::Release { ask, id },
                false => PaceStep::Reserve { ask, patience: Duration::from_secs(3), id },
            }
        }
        _ => PaceStep::Reserve {
            ask,
            patience: Duration::from_millis(random.random_range(0..6_000)),
            id: random.random(),
        },
    }
}

#[test]
fn the_script_takes_the_same_steps() {
    let seed = std::env::var("EXAI_FILES_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("seed {seed} (EXAI_FILES_SEED)");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..60 {
        let (lua, server, rates) = (Lua::new(), Rc::new(Server::default()), random_rates(&mut random));
        let function = script(&lua, &server, include_str!("pace.lua"));
        let (mut pace, mut asked) = (Pace::default(), Vec::new());
        server.now.set(1_800_000_000_000_000);
        for number in 0..500 {
            server.now.set(server.now.get() + random.random_range(1..400_000));
            let step = random_step(&mut random, &asked);
            if let PaceStep::Reserve { ask, id, .. } = step {
                asked.push((ask, id));
            }
            let expected = pace.step(&rates, Timestamp(server.now.get()), &step);
            let question = question(&rates, &step, None).to_string();
            let told = run(&lua, &function, &["log", "facts"], &[&question]);
            let wait = Duration::from_micros(told[0].parse().unwrap());
            let is_granted = told[1] == "1" || !matches!(step, PaceStep::Reserve { .. });
            let answer = PaceAnswer {
                wait: if is_granted { Ok(wait) } else { Err(wait) },
                health: PaceHealth {
                    used: told[4].parse().unwrap(),
                    share: told[5].parse().unwrap(),
                    paused_for: Duration::from_micros(told[6].parse().unwrap()),
                },
                epoch: 0,
            };
            assert_eq!(answer, expected, "round {round}, step {number}: {step:?} with {rates:?}");
        }
    }
}

#[test]
fn a_lost_or_stepped_log_is_whole_again_after_a_window() {
    let (lua, server) = (Lua::new(), Rc::new(Server::default()));
    let function = script(&lua, &server, include_str!("pace.lua"));
    let rates = Rates { requests: Some(Rate { requests: 5, window: Duration::from_secs(2) }), ..Rates::NONE };
    let ask = |epoch: Option<(i64, i64)>| {
        let id = rand::random();
        let step = PaceStep::Reserve { ask: Operation::List.into(), patience: Duration::from_secs(60), id };
        let known = epoch.map(|(number, now)| Epoch::new(number, Timestamp(now)));
        let mut question = question(&rates, &step, known);
        if epoch.is_none() {
            question["is_new"] = true.into();
        }
        let mut told = run(&lua, &function, &["log", "facts"], &[&question.to_string()]);
        if told[7] == STEPPED.to_string() {
            question["confirmed"] = true.into();
            told = run(&lua, &function, &["log", "facts"], &[&question.to_string()]);
        }
        let wait = (told[1] == "1").then(|| told[0].parse::<u64>().unwrap());
        (wait, told[2].parse::<i64>().unwrap(), told[7].parse::<u8>().unwrap())
    };
    let start = 1_800_000_000_000_000;
    server.now.set(start);
    let (wait, epoch, made_of_it) = ask(None);
    assert_eq!((wait, made_of_it), (Some(0), 0));
    server.sets.borrow_mut().clear();
    server.hashes.borrow_mut().clear();
    server.now.set(start + 1_000);
    let (wait, next, made_of_it) = ask(Some((epoch, start)));
    assert_eq!((wait, next, made_of_it), (None, start + 1_000, NOT_WHOLE), "what was granted is not known");
    assert_eq!(ask(None).0, Some(2_050_000), "newcomers wait");
    for step in [3_600_000_000, -3_600_000_000] {
        let (_, epoch, _) = ask(None);
        let before = server.now.get();
        server.now.set(before + step);
        let (wait, next, made_of_it) = ask(Some((epoch, before)));
        assert_eq!((wait, next, made_of_it), (None, before + step, NOT_WHOLE), "after a step of the clock");
        server.now.set(server.now.get() + 10_000_000);
        assert_eq!(ask(Some((next, server.now.get()))).0, Some(0), "and then all is well");
    }
}

/// Clients in every order of their questions: no change is lost, and none is made twice.
#[test]
fn changes_by_swapping_are_never_lost() {
    let mut random = StdRng::seed_from_u64(11);
    let (lua, server) = (Lua::new(), Rc::new(Server::default()));
    let function = script(&lua, &server, include_str!("swap.lua"));
    let (mut seen, mut done) = (vec![String::new(); 8], [0; 8]);
    while done.iter().any(|done| *done < 200) {
        let client = random.random_range(0..8);
        if done[client] == 200 {
            continue;
        }
        let next = seen[client].parse::<u64>().unwrap_or(0) + 1;
        let told = run(&lua, &function, &["piece"], &[&seen[client], &next.to_string(), "1000"]);
        done[client] += i32::from(told[0] == "1");
        seen[client] = if told[0] == "1" { next.to_string() } else { told[2].clone() };
    }
    assert_eq!(server.strings.borrow()["piece"], "1600");
}
