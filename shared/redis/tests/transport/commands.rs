//! The connection for commands comes back by itself.

use std::time::Duration;

use redis::{AsyncCommands, cmd};

use crate::fixture::Fixture;

#[tokio::test]
async fn the_first_command_after_a_connection_has_ended_finds_a_living_one() {
    let fixture = Fixture::new();
    let (mut ours, mut other) = (fixture.connector.commands().unwrap(), fixture.connector.commands().unwrap());
    let key = fixture.connector.keys().key("counter");
    let mut id: u64 = cmd("CLIENT").arg("ID").query_async(&mut ours).await.unwrap();
    for round in 1..=5 {
        let killed: u64 = cmd("CLIENT").arg("KILL").arg("ID").arg(id).query_async(&mut other).await.unwrap();
        assert_eq!(killed, 1);
        tokio::time::sleep(Duration::from_millis(100)).await;
        // A write: nobody could know whether to repeat it after an error.
        let count: u64 = ours.incr(&key, 1).await.expect("no error is seen of it");
        assert_eq!(count, round);
        let before = std::mem::replace(&mut id, cmd("CLIENT").arg("ID").query_async(&mut ours).await.unwrap());
        assert_ne!(before, id);
    }
    let _: () = other.del(&key).await.unwrap();
}

#[tokio::test]
async fn the_runtime_that_made_it_drives_it_whichever_uses_it_first() {
    let fixture = Fixture::new();
    let mut ours = fixture.connector.commands().unwrap();
    let mut theirs = ours.clone();
    let elsewhere = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let id: u64 = runtime.block_on(cmd("CLIENT").arg("ID").query_async(&mut theirs)).unwrap();
        id
    });
    while !elsewhere.is_finished() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // That one has gone, and the connection lives on.
    let id: u64 = cmd("CLIENT").arg("ID").query_async(&mut ours).await.unwrap();
    assert_eq!(id, elsewhere.join().unwrap());
}
