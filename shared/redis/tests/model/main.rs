//! The scripts as a model sees them: whatever happens between any two of them, in whatever order, each message is in exactly one
//! place, and a result is final once.
//!
//! A step of a worker is one script; a crash, a lost answer, a stall and somebody else's doing come between any two. The
//! sequences are proptest's: a failing one is shrunk and shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod concurrent;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use world::{Heard, Step, World};

fn heard() -> impl Strategy<Value = Heard> {
    prop_oneof![4 => Just(Heard::Answer), 1 => Just(Heard::Nothing)]
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, which) = (0..3_usize, 0..8_usize);
    prop_oneof![
        6 => (0..10_i64, any::<bool>()).prop_map(|(priority, long)| Step::Send { priority, long }),
        8 => (worker.clone(), 1..5_usize, heard()).prop_map(|(worker, room, heard)| Step::Fetch { worker, room, heard }),
        4 => worker.clone().prop_map(|worker| Step::Wait { worker }),
        4 => (worker.clone(), heard()).prop_map(|(worker, heard)| Step::Given { worker, heard }),
        8 => (worker.clone(), which.clone(), heard()).prop_map(|(worker, which, heard)| Step::Settle { worker, which, heard }),
        3 => worker.clone().prop_map(|worker| Step::SettleAgain { worker }),
        2 => (worker.clone(), which.clone(), any::<bool>(), heard())
            .prop_map(|(worker, which, next, heard)| Step::GiveBack { worker, which, next, heard }),
        4 => (worker.clone(), which.clone(), any::<bool>(), heard())
            .prop_map(|(worker, which, due, heard)| Step::PutWaiting { worker, which, due, heard }),
        3 => (1..4_usize).prop_map(|limit| Step::ReturnDue { limit }),
        2 => (worker.clone(), which.clone(), heard()).prop_map(|(worker, which, heard)| Step::TakeWaiting { worker, which, heard }),
        2 => (worker.clone(), which.clone(), heard()).prop_map(|(worker, which, heard)| Step::DeadLetter { worker, which, heard }),
        2 => which.prop_map(|which| Step::Replay { which }),
        2 => worker.clone().prop_map(|worker| Step::Forgotten { worker }),
        2 => worker.clone().prop_map(|worker| Step::Crash { worker }),
        2 => worker.clone().prop_map(|worker| Step::LookAtHeld { worker }),
        3 => worker.clone().prop_map(|worker| Step::RestoreSeen { worker }),
        2 => worker.clone().prop_map(|worker| Step::RestoreOverdue { worker }),
        2 => Just(Step::RestoreAsKombu),
        2 => worker.clone().prop_map(|worker| Step::Record { worker }),
        1 => worker.prop_map(|worker| Step::KeepAlive { worker }),
    ]
}

#[test]
fn each_message_is_in_one_place_and_a_result_is_final_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let cases = std::env::var("MODEL_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(32);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 400, ..Config::default() };
    let seed = std::env::var("MODEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1_u8);
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]));
    let sequences = proptest::collection::vec(step(), 10..80);
    let outcome = runner.run(&sequences, |steps| {
        runtime.block_on(async {
            let mut world = World::new().await;
            for (at, step) in steps.iter().enumerate() {
                world.take(step).await;
                world.check().await.map_err(|why| TestCaseError::fail(format!("after step {at}, {step:?}: {why}")))?;
            }
            world.finish().await;
            world.check_finished().await.map_err(TestCaseError::fail)
        })
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
