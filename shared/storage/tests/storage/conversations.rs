use petiole_storage::NewTurn;
use serde_json::json;
use uuid::Uuid;

use crate::database::ready;

fn turn(conversation_id: Uuid, n: usize) -> NewTurn {
    NewTurn {
        conversation_id,
        task_id: format!("task {n}"),
        question: format!("question {n}\0"),
        answer: format!("answer {n}"),
        citations: json!([{"number": n}]),
        model: "extractive".into(),
    }
}

#[tokio::test]
async fn the_last_turns_come_in_their_order_and_each_task_answers_once() {
    let database = ready().await;
    let storage = &database.storage;
    let (id, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(storage.last_turns(id, 10).await.unwrap(), []);
    for n in [1, 2, 2, 3] {
        storage.add_turn(turn(id, n)).await.unwrap();
    }
    storage.add_turn(turn(other, 4)).await.unwrap();
    let turns = storage.last_turns(id, 2).await.unwrap();
    let seen: Vec<_> = turns.iter().map(|turn| (turn.question.as_str(), turn.answer.as_str())).collect();
    assert_eq!(seen, [("question 2\u{fffd}", "answer 2"), ("question 3\u{fffd}", "answer 3")]);
    assert_eq!(turns[1].citations, json!([{"number": 3}]));
    assert_eq!(storage.last_turns(id, 10).await.unwrap().len(), 3);

    assert!(storage.delete_conversation(id).await.unwrap());
    assert!(!storage.delete_conversation(id).await.unwrap());
    assert_eq!(storage.last_turns(other, 10).await.unwrap().len(), 1);
}
