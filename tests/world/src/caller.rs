//! Clients over HTTP. Each has something to ask, and sends a key with it: it asks until it has been
//! told, whatever it heard before, and some ask again later, or twice at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_flow::{Answer, Once, Request, RequestId};

/// How much later than its client's patience an answer may be.
const LATE: Duration = Duration::from_millis(5);

/// All of them.
#[derive(Debug)]
pub(crate) struct Callers {
    wishes: Vec<Wish>,
    /// Which wish each request is for that is on its way, and until when its client waits.
    open: BTreeMap<RequestId, (usize, Duration)>,
    /// Clients that are not content yet.
    busy: usize,
    next_id: u64,
    /// Requests beyond the first one of each wish.
    pub(crate) asked_again: u64,
    /// What the gateway did wrong, in their eyes.
    pub(crate) complaints: Vec<String>,
}

/// What one asks.
#[derive(Debug, Default)]
struct Wish {
    asked: u64,
    /// What it was told first.
    told: Option<String>,
}

/// What a client does when it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is content.
    Rests,
    /// It asks again.
    Asks(usize),
}

impl Callers {
    pub(crate) fn new(requests: u64) -> Callers {
        Callers {
            wishes: (0..requests).map(|_| Wish::default()).collect(),
            open: BTreeMap::new(),
            busy: 0,
            next_id: 1,
            asked_again: 0,
            complaints: Vec::new(),
        }
    }

    /// Each wish that has been told, with what.
    pub(crate) fn told(&self) -> impl Iterator<Item = (usize, &str)> {
        let told = self.wishes.iter().map(|wish| wish.told.as_deref());
        told.enumerate().filter_map(|(wish, told)| Some((wish, told?)))
    }

    /// Everybody is content.
    pub(crate) fn is_done(&self) -> bool {
        self.busy == 0
    }

    /// Where they stand, in words.
    pub(crate) fn describe(&self) -> String {
        format!("{} callers are not content, on their way: {:?}", self.busy, self.open)
    }

    /// Which wish each client begins with. Every fourth has two.
    pub(crate) fn begin(&mut self) -> Vec<usize> {
        let twice = |wish: usize| if wish.is_multiple_of(4) { 2 } else { 1 };
        let all = 0..self.wishes.len();
        let all: Vec<usize> = all.flat_map(|wish| (0..twice(wish)).map(move |_| wish)).collect();
        self.busy = all.len();
        all
    }

    /// One asks.
    pub(crate) fn ask(
        &mut self,
        wish: usize,
        function: usize,
        clock: Duration,
        patience: Duration,
    ) -> Request {
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.open.insert(id, (wish, clock + patience));
        let one = &mut self.wishes[wish];
        self.asked_again += u64::from(one.asked > 0);
        one.asked += 1;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&(wish as u64).to_le_bytes());
        Request {
            id,
            function,
            route: "/ask".to_owned(),
            properties: vec![(":method".to_owned(), "POST".to_owned())],
            body: wish.to_string().into_bytes(),
            once: Some(Once { key, fingerprint: key }),
            patience,
        }
    }

    /// The gateway has answered; the client may not hear of it.
    pub(crate) fn answered(
        &mut self,
        id: RequestId,
        answer: &Answer,
        clock: Duration,
        is_heard: bool,
    ) -> Then {
        let Some((wish, until)) = self.open.remove(&id) else {
            self.complaints.push(format!("{id:?} was answered and is not open: {answer:?}"));
            return Then::Rests;
        };
        if clock > until + LATE {
            self.complaints.push(format!("{id:?} was answered at {clock:?}, not until {until:?}"));
        }
        if !is_heard {
            return Then::Asks(wish);
        }
        match answer.status {
            200 => self.tell(wish, answer),
            // The function has failed, is busy, has such a request already, or nobody knows.
            409 | 500 | 503 | 504 => Then::Asks(wish),
            _ => {
                self.complaints.push(format!("{wish} was answered with {answer:?}"));
                self.busy -= 1;
                Then::Rests
            }
        }
    }

    fn tell(&mut self, wish: usize, answer: &Answer) -> Then {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let told = self.wishes[wish].told.get_or_insert_with(|| text.clone());
        if *told != text {
            self.complaints.push(format!("{wish} was told {told}, then {text}"));
        }
        // Some want to hear it again.
        if self.wishes[wish].asked <= wish as u64 % 3 {
            return Then::Asks(wish);
        }
        self.busy -= 1;
        Then::Rests
    }

    /// The gateway is gone: their wishes, to be asked again.
    pub(crate) fn lost(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.open).into_values().map(|(wish, _)| wish).collect()
    }
}
