//! External bridges: links that we dial.

use crate::dial::dial;
use crate::link;
use crate::tasks::Tasks;
use mcp_local_provider_engine::dial::BridgeDialler;

/// Keeps a bridge connected until its attempts are used up.
pub(crate) async fn run(tasks: Tasks, mut dialler: BridgeDialler) {
    loop {
        let pause = match dial(dialler.target(), &tasks.timers).await {
            Ok(socket) => {
                if let Some(link) = dialler.connected() {
                    link::run(&tasks, link, socket).await;
                }
                dialler.lost()
            }
            Err(error) => dialler.failed(&error),
        };
        match pause {
            Some(pause) => tasks.timers.after(pause).await,
            None => return,
        }
    }
}
