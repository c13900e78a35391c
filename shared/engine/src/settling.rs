//! What is to be settled waits here for the connection: what came together goes together, and nothing waits for more to
//! come (celery.worker.request: acknowledge; celery.backends.base: store_result).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use petiole_client::{ClientError, Plan};
use petiole_protocol::{State, TaskMeta};
use petiole_redis::settle::{Settled, Settlement, Write};
use petiole_redis::{Backend, RedisError};
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};

use crate::request::{Phase, Request};
use crate::worker::Worker;

/// The way to the connection.
pub(crate) struct Settling {
    queue: mpsc::UnboundedSender<Waiting>,
    connected: AtomicBool,
}

/// A settlement on its way.
pub(crate) struct Waiting {
    settlement: Settlement,
    /// Whose message it acknowledges.
    request: Option<Arc<Request>>,
    /// Who wants to hear of it.
    told: Option<oneshot::Sender<Settled>>,
    /// The queues are to be looked at with it, whatever is known of them.
    look: bool,
    /// A run has ended with it: its slot is free, or will be in a moment.
    ends: bool,
    /// Others of the same task may come before it or after it.
    in_order: bool,
    /// It tells that this run has begun: by the request's sequence.
    begins: Option<u64>,
    /// It tells how it ended.
    concludes: Option<u64>,
}

impl Waiting {
    /// Of the end of a run.
    fn of(settlement: Settlement) -> Self {
        Self {
            settlement,
            request: None,
            told: None,
            look: false,
            ends: false,
            in_order: false,
            begins: None,
            concludes: None,
        }
    }
}

/// Settlements that go together.
#[derive(Default)]
struct Batch {
    settlements: Vec<Settlement>,
    /// Whose they are, in the same order.
    parties: Vec<Parties>,
    /// The connection broke while they were sent: they may be done.
    tried: bool,
    /// Somebody wants the queues to be looked at.
    look: bool,
    /// How many runs have ended with them.
    ends: usize,
    /// One of them must not come before what was sent before.
    in_order: bool,
    /// Runs that have begun and not ended with them.
    begun: Vec<u64>,
}

/// The connection's end: settlements that are not known to be done.
pub(crate) struct Unsettled {
    queue: mpsc::UnboundedReceiver<Waiting>,
    /// Those to be sent next.
    next: Batch,
    /// Those that were sent, and are not answered for.
    sent: VecDeque<Batch>,
}

/// How long one who asks what a worker has waits for its look at the queues.
const LOOK: Duration = Duration::from_millis(200);

/// Whose message a settlement acknowledges, and who wants to hear of it.
type Parties = (Option<Arc<Request>>, Option<oneshot::Sender<Settled>>);

/// So many go together at most.
const BATCH: usize = 100;

impl Settling {
    /// Both ends.
    pub(crate) fn new() -> (Self, Unsettled) {
        let (sender, queue) = mpsc::unbounded_channel();
        (
            Self { queue: sender, connected: AtomicBool::new(false) },
            Unsettled { queue, next: Batch::default(), sent: VecDeque::new() },
        )
    }
}

impl Settling {
    /// Does what is put here reach Redis at once?
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Redis answers, or does not.
    pub(crate) fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}

impl Batch {
    fn put(&mut self, waiting: Waiting) {
        self.look |= waiting.look;
        self.ends += usize::from(waiting.ends);
        self.in_order |= waiting.in_order;
        self.begun.extend(waiting.begins);
        self.begun.retain(|run| Some(*run) != waiting.concludes);
        self.settlements.push(waiting.settlement);
        self.parties.push((waiting.request, waiting.told));
    }

    /// What came after it, behind it.
    fn append(&mut self, mut after: Self) {
        self.settlements.append(&mut after.settlements);
        self.parties.append(&mut after.parties);
        self.tried |= after.tried;
        self.look |= after.look;
        self.ends += after.ends;
        self.in_order |= after.in_order;
        self.begun.append(&mut after.begun);
    }

    fn releases(&self) -> usize {
        self.parties.iter().filter(|(request, _)| request.is_some()).count()
    }
}

impl Unsettled {
    /// Those to be sent now.
    pub(crate) fn batch(&mut self) -> &[Settlement] {
        while self.next.settlements.len() < BATCH {
            let Ok(waiting) = self.queue.try_recv() else { break };
            self.next.put(waiting);
        }
        &self.next.settlements
    }

    /// Is there nothing that is not known to be done?
    pub(crate) fn is_empty(&mut self) -> bool {
        self.sent.is_empty() && self.batch().is_empty()
    }

    /// May the next ones be sent while others are not answered for? When one request fails and the next does not, they come in
    /// another order: so only what is known of whole runs, of which none waits for another.
    pub(crate) fn goes_beside(&mut self) -> bool {
        let is_whole = |sent: &Batch| !sent.in_order && sent.begun.is_empty();
        !self.batch().is_empty() && !self.next.in_order && self.sent.iter().all(is_whole)
    }

    /// The next ones, which are sent now.
    pub(crate) fn start(&mut self) -> &[Settlement] {
        self.sent.push_back(std::mem::take(&mut self.next));
        self.sent.back().map(|sent| &*sent.settlements).unwrap_or_default()
    }

    /// Those that are answered for next.
    pub(crate) fn started(&mut self) -> &mut [Settlement] {
        self.sent.front_mut().map(|sent| &mut *sent.settlements).unwrap_or_default()
    }

    /// How many of them make room for other messages.
    pub(crate) fn releases(&self) -> usize {
        self.sent.iter().chain([&self.next]).map(Batch::releases).sum()
    }

    /// Does somebody want the queues to be looked at?
    pub(crate) fn is_asked(&self) -> bool {
        self.next.look
    }

    /// Are the queues to be looked at? Also when these put messages into them: Redis does not tell a connection of its own
    /// doing. `free` of them the worker may take on itself instead, where nothing else waits.
    pub(crate) fn look(&mut self, queues: &[String], free: usize) -> bool {
        let writes = self.next.settlements.iter_mut().flat_map(|settlement| &mut settlement.writes);
        let pushes = writes.filter_map(|write| match write {
            Write::Push(push) if queues.contains(&push.queue) => Some(push),
            _ => None,
        });
        let pushes: Vec<_> = pushes.collect();
        let take = pushes.len() <= free && pushes.iter().all(|push| push.message.is_some());
        let look = self.next.look || (!take && !pushes.is_empty());
        pushes.into_iter().for_each(|push| push.take = take);
        look
    }

    /// How many runs have ended with them.
    pub(crate) fn ends(&self) -> usize {
        self.next.ends
    }

    /// Waits for the next.
    pub(crate) async fn wait(&mut self) {
        if let Some(waiting) = self.queue.recv().await {
            self.next.put(waiting);
        }
    }

    /// The connection broke: all of them are to be sent again, in their order.
    pub(crate) fn broke(&mut self) {
        let mut all = Batch::default();
        for mut sent in self.sent.drain(..) {
            sent.tried |= !sent.settlements.is_empty();
            all.append(sent);
        }
        all.append(std::mem::take(&mut self.next));
        self.next = all;
    }

    /// Redis has answered for those that are [next](Self::started).
    pub(crate) fn done(&mut self, worker: &Worker, settled: Vec<Settled>) {
        let Some(batch) = self.sent.pop_front() else { return };
        for (settled, (request, told)) in settled.into_iter().zip(batch.parties) {
            if let Some(request) = &request {
                match &settled {
                    Settled::Claimed(_) => {}
                    Settled::Lost if !batch.tried => {
                        warn!(
                            task_id = request.id(),
                            "the claim was lost: another worker has the task, nothing was stored"
                        );
                        worker.release(request);
                    }
                    Settled::Refused(why) => {
                        error!(task_id = request.id(), "Redis refused what follows from the task: {why}");
                        worker.release(request);
                    }
                    _ => worker.release(request),
                }
            }
            if let Some(told) = told {
                // Who has gone does not need to know.
                let _ = told.send(settled);
            }
        }
        worker.announcer.settled(batch.settlements);
    }
}

impl Worker {
    /// Acknowledges the message of a request, unless that was done.
    pub(crate) fn acknowledge(&self, request: &Arc<Request>) {
        self.settle(request, vec![]);
    }

    /// Writes what follows from a request, and acknowledges it with that, unless it was acknowledged before.
    pub(crate) fn settle(&self, request: &Arc<Request>, writes: Vec<Write>) {
        let (settlement, acknowledges) = self.settlement(request, writes);
        if acknowledges || !settlement.writes.is_empty() {
            // What follows from a task is sent when it has run.
            let ends = settlement.writes.iter().any(|write| matches!(write, Write::Push(_)));
            let concludes = (!settlement.writes.is_empty()).then_some(request.sequence);
            let request = acknowledges.then(|| request.clone());
            self.enqueue(Waiting { request, ends, concludes, ..Waiting::of(settlement) });
        }
    }

    /// The same, and waits for it. Also tells whether the message is still to be [closed](Self::close): when a chord was
    /// claimed with it.
    pub(crate) async fn settle_and_hear(&self, request: &Arc<Request>, writes: Vec<Write>) -> (Settled, bool) {
        let (settlement, acknowledges) = self.settlement(request, writes);
        let settled = self.hear(settlement, acknowledges.then(|| request.clone())).await;
        let open = acknowledges && matches!(settled, Settled::Claimed(_));
        (settled, open)
    }

    /// Acknowledges what [`Self::settle_and_hear`] left open, with what follows.
    pub(crate) fn close(&self, request: &Arc<Request>, writes: Vec<Write>) {
        let settlement = Settlement { tag: Some(request.delivery.tag.clone()), writes };
        self.enqueue(Waiting { request: Some(request.clone()), ..Waiting::of(settlement) });
    }

    fn settlement(&self, request: &Request, mut writes: Vec<Write>) -> (Settlement, bool) {
        if request.settle() {
            if request.is_counted_as_redelivered() {
                let (key, field) = (self.client.broker().keys().redeliveries(), request.delivery.tag.clone());
                writes.insert(0, Write::DeleteField { key, field });
            }
            return (Settlement { tag: Some(request.delivery.tag.clone()), writes }, true);
        }
        (Settlement::writes(self.guarded(writes)), false)
    }

    /// Without an acknowledgement nothing tells a second try from the first.
    fn guarded(&self, mut writes: Vec<Write>) -> Vec<Write> {
        if writes.iter().any(|write| matches!(write, Write::Push(_))) {
            writes.insert(0, Write::once(self.client.broker().keys()));
        }
        writes
    }

    /// Writes that a run has begun.
    pub(crate) fn begins(&self, request: &Request, writes: Vec<Write>) {
        self.enqueue(Waiting { begins: Some(request.sequence), ..Waiting::of(Settlement::writes(writes)) });
    }

    /// Writes, for as long as it takes Redis to come back.
    pub(crate) async fn write(&self, writes: Vec<Write>) -> Settled {
        self.hear(Settlement::writes(self.guarded(writes)), None).await
    }

    /// Carries out a plan, for as long as it takes Redis to come back.
    pub(crate) async fn execute(&self, plan: &Plan) -> Result<(), ClientError> {
        match self.write(self.client.writes(plan.clone())).await {
            Settled::Refused(why) => Err(RedisError::Refused(why).into()),
            _ => Ok(()),
        }
    }

    /// Stores a result, for as long as it takes Redis to come back.
    pub(crate) async fn store(&self, meta: &TaskMeta) {
        self.write(vec![self.result(meta)]).await;
    }

    /// A result to be stored.
    pub(crate) fn result(&self, meta: &TaskMeta) -> Write {
        let backend: &Backend = self.client.backend();
        let failed = self.config.failure_expires.filter(|_| meta.state() == State::Failure);
        Write::result(backend, meta, failed.unwrap_or(self.config.result_expires))
    }

    async fn hear(&self, settlement: Settlement, request: Option<Arc<Request>>) -> Settled {
        let (told, heard) = oneshot::channel();
        self.enqueue(Waiting { request, told: Some(told), in_order: true, ..Waiting::of(settlement) });
        // Nobody answers when the worker is gone.
        heard.await.unwrap_or(Settled::Lost)
    }

    /// Looks at the queues, and receives what is there if it has room for more.
    pub(crate) async fn look(&self) {
        let (told, heard) = oneshot::channel();
        self.enqueue(Waiting { told: Some(told), look: true, in_order: true, ..Waiting::of(Settlement::default()) });
        // Without Redis there is nothing to be seen.
        let _ = tokio::time::timeout(LOOK, heard).await;
    }

    fn enqueue(&self, waiting: Waiting) {
        // The other end lives as long as the worker.
        let _ = self.settling.queue.send(waiting);
    }

    /// Redis knows that the message of a request is settled.
    pub(crate) fn release(&self, request: &Request) {
        request.settled();
        self.qos.release();
        if request.phase() == Phase::Ended {
            self.state.forget(request);
        }
    }

    /// A run is over.
    pub(crate) fn ended(&self, request: &Request) {
        request.enter(Phase::Ended);
        if !request.is_held() {
            self.state.forget(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use petiole_protocol::TaskMessage;
    use petiole_redis::handover::Push;

    use super::*;

    fn unsettled(queues: &[&str]) -> Unsettled {
        let push = |queue: &&str| {
            let message = Some(Box::new(TaskMessage::new("t", "1", vec![], Default::default())));
            Write::Push(Box::new(Push { queue: (*queue).to_owned(), message, ..Push::default() }))
        };
        let (_, mut unsettled) = Settling::new();
        unsettled.next.settlements.push(Settlement::writes(queues.iter().map(push).collect()));
        unsettled
    }

    fn taken(unsettled: &Unsettled) -> Vec<bool> {
        let writes = unsettled.next.settlements.iter().flat_map(|settlement| &settlement.writes);
        writes
            .filter_map(|write| match write {
                Write::Push(push) => Some(push.take),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_worker_takes_what_it_sends_when_it_has_slots_for_all_of_it() {
        let own = ["own".to_owned()];
        for (queues, free, look, take) in [
            (&["own", "own"][..], 2, false, vec![true, true]),
            // Others may have a slot for the second.
            (&["own", "own"], 1, true, vec![false, false]),
            (&["other", "own"], 1, false, vec![false, true]),
            (&["other"], 0, false, vec![false]),
            (&[], 0, false, vec![]),
        ] {
            let mut unsettled = unsettled(queues);
            assert_eq!((unsettled.look(&own, free), taken(&unsettled)), (look, take), "{queues:?} {free}");
        }
        // A retry may come when there is room no more.
        let mut unsettled = unsettled(&["own"]);
        assert!(!unsettled.look(&own, 1) && unsettled.look(&own, 0) && taken(&unsettled) == [false]);
    }

    fn put(unsettled: &mut Unsettled, tag: &str, in_order: bool) {
        unsettled.next.put(Waiting { in_order, ..Waiting::of(Settlement::acknowledge(tag)) });
    }

    #[test]
    fn only_ends_of_runs_go_beside_others_that_are_not_answered_for() {
        let mut unsettled = unsettled(&[]);
        assert!(unsettled.goes_beside());
        put(&mut unsettled, "a", true);
        assert!(!unsettled.goes_beside());
        unsettled.start();
        assert!(!unsettled.goes_beside(), "there is nothing");
        put(&mut unsettled, "b", false);
        assert!(!unsettled.goes_beside(), "the one before is to come first");
    }

    #[test]
    fn the_end_of_a_run_does_not_overtake_its_beginning() {
        let mut unsettled = unsettled(&[]);
        let mut tell = |begins, concludes| {
            unsettled.next.put(Waiting { begins, concludes, ..Waiting::of(Settlement::default()) });
        };
        tell(Some(1), None);
        tell(None, Some(1));
        tell(Some(2), None);
        assert!(unsettled.goes_beside());
        unsettled.start();
        unsettled.next.put(Waiting { concludes: Some(2), ..Waiting::of(Settlement::default()) });
        assert!(!unsettled.goes_beside(), "the second began with what is not answered for");
        unsettled.sent.clear();
        unsettled.next.put(Waiting { begins: Some(3), ..Waiting::of(Settlement::default()) });
        unsettled.next.put(Waiting { concludes: Some(3), ..Waiting::of(Settlement::default()) });
        unsettled.start();
        put(&mut unsettled, "a", false);
        assert!(unsettled.goes_beside());
    }

    #[test]
    fn what_a_broken_connection_left_open_is_sent_again_in_its_order() {
        let (_sender, mut unsettled) = Settling::new();
        for (tag, sent) in [("a", true), ("b", true), ("c", false)] {
            put(&mut unsettled, tag, false);
            if sent {
                unsettled.start();
            }
        }
        unsettled.broke();
        let tags: Vec<_> = unsettled.batch().iter().filter_map(|settlement| settlement.tag.as_deref()).collect();
        assert_eq!(tags, ["a", "b", "c"]);
        assert!(unsettled.next.tried && unsettled.sent.is_empty());
        // Nothing was sent: nothing is known to others.
        let (_sender, mut unsettled) = Settling::new();
        put(&mut unsettled, "a", false);
        unsettled.broke();
        assert!(!unsettled.next.tried);
    }
}
