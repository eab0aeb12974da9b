//! Invariants: of answers, and of what works for whom.

use super::{Change, Run, World, outside};
use std::collections::BTreeSet;

impl World {
    /// Checks the invariants, which hold whenever nobody is to be polled.
    pub(super) fn check(&mut self) {
        let (over, open) = self
            .changes
            .drain(..)
            .partition(|it| it.exchange.is_closed());
        self.changes = open;
        let over: Vec<Change> = over;
        for change in over {
            self.check_change(&change);
        }
        let (over, open) = self.runs.drain(..).partition(|it| it.exchange.is_closed());
        self.runs = open;
        let over: Vec<Run> = over;
        for run in over {
            self.check_run(&run);
        }
        let working = self.working();
        let open: BTreeSet<&str> = self.runs.iter().map(|run| &*run.canary).collect();
        let mut canaries = BTreeSet::new();
        for (at, trail) in working.iter().enumerate() {
            let canary = outside::canary(trail);
            assert!(open.contains(canary), "{trail} works for nobody");
            canaries.insert(canary);
            let of_the_run = |other: &&String| outside::canary(other) == canary;
            for other in working[..at].iter().filter(of_the_run) {
                let may = outside::may_run_at_once(trail, other);
                assert!(may, "{trail} and {other} work at once");
            }
        }
        let most = self.limits.executions;
        assert!(canaries.len() <= most, "more runs than {most}: {working:?}");
    }

    fn check_change(&mut self, change: &Change) {
        let exchange = &change.exchange;
        let head = exchange.head.as_ref().expect("an answer");
        let status = head.status();
        self.tell(|| format!("{:?}: {status}", change.wanted));
        assert!(
            matches!(status, 200 | 201 | 400 | 404 | 409 | 507 | 503),
            "{:?} is answered with {status}: {}",
            change.wanted,
            String::from_utf8_lossy(&exchange.arrived)
        );
        let went_well = status < 300;
        for (name, mark) in &change.wanted {
            match mark {
                Some(mark) => {
                    let entry = (name.clone(), mark.clone());
                    let is_kept = self.kept.contains(&entry);
                    assert_eq!(is_kept, went_well, "{entry:?} was answered {status}");
                }
                None if went_well => self.deleted.1 += 1,
                None => {}
            }
        }
        let (kept, told) = self.deleted;
        assert!(told <= kept, "a deletion was told that is not on the disk");
        self.count(match status {
            200 | 201 => "changes acknowledged",
            507 | 503 => "changes that were not stored",
            _ => "changes that are wrong",
        });
    }

    fn check_run(&mut self, run: &Run) {
        let head = run.exchange.head.as_ref().expect("an answer");
        let status = head.status();
        let body = String::from_utf8_lossy(&run.exchange.arrived).into_owned();
        self.tell(|| format!("{}: {status} {body}", run.canary));
        assert_ne!(status, 500, "{body}");
        for trail in outside::trails(&body) {
            let canary = outside::canary(&trail);
            assert_eq!(canary, run.canary, "the answer of another one: {body}");
        }
        let is_error = body.contains("\"is_error\":true");
        self.count(match status {
            200 if is_error => "runs that failed",
            200 if body.contains("\"skipped\"") => "runs with steps that were skipped",
            200 => "runs",
            400 => "runs beyond a bound of templates",
            409 => "runs of disabled tools",
            429 | 503 => "runs refused",
            504 => "runs that took too long",
            _ => "runs without a tool",
        });
    }
}
