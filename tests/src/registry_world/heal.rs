//! The end of a run: everything heals and ends, and then nothing may be left.

use super::{MODELS, PATIENCE, SERVER, World};
use serde_json::{Value, json};

impl World {
    /// Lets everything end, and checks that it does.
    pub(super) fn heal(&mut self) {
        self.tell(|| "everything heals".to_owned());
        self.outside.clock.listen(MODELS, true);
        self.outside.clock.listen(SERVER, true);
        self.work_off();
        assert_eq!(self.engine.budget().taken(), 0, "shares of limits.memory");
        self.compare_list();
        self.fill_places();
        self.lose_power(0);
    }

    /// The disk keeps all changes, and commands and servers answer, until nobody waits.
    fn work_off(&mut self) {
        for _ in 0..PATIENCE {
            self.flow();
            while self.disk.waiting() > 0 {
                self.settle_disk(true);
                self.flow();
            }
            while !self.working().is_empty() {
                while !self.shell.trails().is_empty() {
                    self.shell.end(0, Some(0), false);
                }
                for at in self.jobs() {
                    self.answer_so(at, 0);
                }
                self.flow();
            }
            if self.runs.is_empty() && self.changes.is_empty() {
                return;
            }
            let at = self.next_timeout().expect("requests that never end");
            self.pass(at);
        }
        panic!("requests never end");
    }

    /// As many runs as there may be at once run at once.
    fn fill_places(&mut self) {
        for name in self.disk.marks().into_keys() {
            let path = format!("/tools/{name}?force=true");
            self.change("DELETE", &path, &Value::Null, vec![(name, None)]);
        }
        self.work_off();
        let mark = self.mark();
        let tool = json!({ "name": "t0", "description": mark, "kind": "command", "command": ["/bin/a", "{{ args.v }}"] });
        self.change("POST", "/tools", &tool, vec![("t0".to_owned(), Some(mark))]);
        self.work_off();
        for _ in 0..self.limits.executions {
            self.run_tool("t0", None);
        }
        self.flow();
        assert_eq!(self.working().len(), self.limits.executions, "places");
        self.work_off();
    }
}
