//! Ends, deadlines and rests of bodies of one connection.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// Shows bytes to a connection until nothing more comes of them; the number that it left.
fn show(connection: &mut ServerConnection, now: Instant, bytes: &[u8]) -> usize {
    let mut input = bytes;
    for _ in 0..9 {
        let _ = connection.handle_read(now, &mut input);
    }
    input.len()
}

/// A connection that has a request with this end of its head, and what follows it.
fn asked(rest: &str) -> (ServerConnection, Vec<u8>) {
    let mut connection = connection(HeadLimits::default());
    let bytes = format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}").into_bytes();
    let mut input = bytes.as_slice();
    let event = connection.handle_read(NOW, &mut input);
    assert!(matches!(event, Event::Request(_)), "{event:?}");
    let left = input.to_vec();
    (connection, left)
}

fn answered(connection: &mut ServerConnection, more: bool) -> Connection {
    let framing = connection.answer(405, Some(2), false);
    connection.handle_answered(NOW, more);
    framing.connection
}

#[test]
fn a_small_rest_of_a_body_is_read_and_what_is_behind_it_is_the_next_request() {
    for (rest, after) in [
        ("\r\n", State::Idle),
        ("Content-Length: 3\r\n\r\nabc", State::Draining),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            State::Draining,
        ),
    ] {
        let (mut connection, mut left) = asked(rest);
        assert_eq!(
            answered(&mut connection, !left.is_empty()),
            Connection::Implied
        );
        assert_eq!(connection.state(), after, "{rest:?}");
        left.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nx");
        assert_eq!(show(&mut connection, NOW, &left), 1, "{rest:?}");
        assert_eq!(connection.state(), State::Asked, "{rest:?}");
    }
}

#[test]
fn a_rest_that_is_large_late_or_wrong_ends_in_lingering() {
    let (mut connection, _) = asked("Content-Length: 100000\r\n\r\n");
    assert_eq!(answered(&mut connection, false), Connection::Close);
    assert_eq!(connection.state(), State::Lingering);
    assert_eq!(show(&mut connection, NOW, &[0; 99]), 0);
    // A client that sends without end is not waited for.
    show(&mut connection, NOW + DISCARD, &[0; 99]);
    assert_eq!(connection.state(), State::Closed);

    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for bytes in [&b"fffff\r\n"[..], b"x"] {
        let (mut connection, _) = asked(chunked);
        assert_eq!(answered(&mut connection, false), Connection::Implied);
        show(&mut connection, NOW, bytes);
        assert_eq!(connection.state(), State::Lingering);
        let _ = connection.handle_timeout(NOW + DISCARD);
        assert_eq!(connection.state(), State::Closed);
    }
    let (mut connection, _) = asked(chunked);
    answered(&mut connection, false);
    let _ = connection.handle_timeout(NOW + DISCARD);
    assert_eq!(connection.state(), State::Lingering);
    let _ = connection.handle_end(NOW + DISCARD);
    assert_eq!(connection.state(), State::Closed);
    let (mut connection, _) = asked(chunked);
    answered(&mut connection, false);
    let _ = connection.handle_end(NOW);
    assert_eq!(connection.state(), State::Closed);
}

#[test]
fn a_client_that_waits_for_permission_to_send_is_not_read_on() {
    let (mut connection, _) = asked("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(answered(&mut connection, false), Connection::Close);
    assert_eq!(connection.state(), State::Lingering);
    let (mut connection, _) = asked("Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    assert_eq!(connection.read_body(NOW, 3), Ok(true));
    assert_eq!(show(&mut connection, NOW, b"abcd"), 1);
    assert_eq!(answered(&mut connection, true), Connection::Implied);
    assert_eq!(connection.state(), State::Idle);
}

#[test]
fn each_wait_has_its_time() {
    let mut silent = connection(HeadLimits::default());
    assert_eq!(silent.poll_timeout(), Some(NOW + SECOND * 10));
    show(&mut silent, NOW + SECOND, b"GET");
    // The first head counts from the beginning of the connection.
    assert_eq!(silent.poll_timeout(), Some(NOW + SECOND * 10));
    let _ = silent.handle_timeout(NOW + SECOND * 9);
    assert_eq!(silent.state(), State::Head);
    let _ = silent.handle_timeout(NOW + SECOND * 10);
    assert_eq!(
        (silent.state(), silent.poll_timeout()),
        (State::Closed, None)
    );

    let (mut kept, _) = asked("\r\n");
    assert_eq!(kept.poll_timeout(), None);
    answered(&mut kept, false);
    assert_eq!(kept.poll_timeout(), Some(NOW + IDLE));
    show(&mut kept, NOW + SECOND, b"GET");
    assert_eq!(kept.poll_timeout(), Some(NOW + SECOND * 11));

    let (mut slow, _) = asked("Content-Length: 3\r\n\r\n");
    assert_eq!(slow.read_body(NOW, 9), Ok(false));
    assert!(matches!(
        slow.handle_timeout(NOW + SECOND * 19),
        Event::More
    ));
    assert!(matches!(
        slow.handle_timeout(NOW + SECOND * 20),
        Event::Late
    ));
    assert_eq!(answered(&mut slow, false), Connection::Close);
    assert_eq!(slow.state(), State::Lingering);
}

#[test]
fn a_client_that_ends_has_left_but_in_the_middle_of_a_body_it_is_told() {
    for answers in [false, true] {
        let (mut left, _) = asked("\r\n");
        if answers {
            let _ = left.answer(200, None, false);
        }
        assert!(matches!(left.handle_end(NOW), Event::More));
        assert_eq!(left.state(), State::Closed);
    }
    let (mut broken, _) = asked("Content-Length: 3\r\n\r\n");
    assert_eq!(broken.read_body(NOW, 9), Ok(false));
    assert!(matches!(broken.handle_end(NOW), Event::Broken));
    assert_eq!(answered(&mut broken, false), Connection::Close);
    let (mut lost, _) = asked("Content-Length: 3\r\n\r\n");
    assert_eq!(lost.read_body(NOW, 9), Ok(false));
    lost.handle_lost();
    assert_eq!(lost.state(), State::Closed);
}

#[test]
fn behind_a_body_that_is_announced_too_large_nothing_follows() {
    let (mut connection, _) = asked("Content-Length: 3\r\n\r\n");
    let refused = connection.read_body(NOW, 2).map_err(|error| error.status);
    assert_eq!(refused, Err(413));
    assert_eq!(answered(&mut connection, false), Connection::Close);
    assert_eq!(connection.state(), State::Lingering);
}

#[test]
fn a_body_that_is_not_read_on_is_a_rest() {
    let (mut connection, _) = asked("Content-Length: 3\r\n\r\n");
    assert_eq!(connection.read_body(NOW, 9), Ok(false));
    show(&mut connection, NOW, b"a");
    assert_eq!(answered(&mut connection, false), Connection::Implied);
    assert_eq!(connection.state(), State::Draining);
    assert_eq!(show(&mut connection, NOW, b"bcG"), 1);
}

#[test]
fn a_shutdown_ends_what_waits_and_tells_the_others() {
    let (mut idle, _) = asked("\r\n");
    assert_eq!(answered(&mut idle, true), Connection::Implied);
    idle.handle_shutdown(NOW);
    assert_eq!(idle.state(), State::Closed);
    // A client that has just connected has a moment to ask.
    let mut fresh = connection(HeadLimits::default());
    fresh.handle_shutdown(NOW);
    assert_eq!(fresh.poll_timeout(), Some(NOW + FIRST_REQUEST));
    let mut silent = connection(HeadLimits::default());
    silent.handle_shutdown(NOW);
    let _ = silent.handle_timeout(NOW + FIRST_REQUEST);
    assert_eq!(silent.state(), State::Closed);
    assert_eq!(
        show(&mut fresh, NOW, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        0
    );
    assert_eq!(answered(&mut fresh, false), Connection::Close);
    let (mut busy, _) = asked("\r\n");
    busy.handle_shutdown(NOW);
    assert_eq!(answered(&mut busy, false), Connection::Close);
    assert_eq!(busy.state(), State::Closed);
    // It was told that the connection is kept: a request that is there is answered, and one that is not is not waited for.
    let (mut told, _) = asked("\r\n");
    let _ = told.answer(200, Some(0), false);
    told.handle_shutdown(NOW);
    told.handle_answered(NOW, false);
    show(&mut told, NOW, b"");
    assert_eq!(told.state(), State::Closed);
    // One that comes meanwhile is answered once.
    let limits = ConnectionLimits {
        sizes: HeadLimits::default(),
        head: SECOND,
        body: SECOND,
    };
    let mut late = ServerConnection::new(NOW, limits, true);
    late.handle_shutdown(NOW);
    assert_eq!(
        show(&mut late, NOW, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        0
    );
    assert_eq!(answered(&mut late, false), Connection::Close);
}

#[test]
fn behind_an_upgrade_nothing_is_read() {
    let (mut connection, _) = asked("\r\n");
    connection.upgrade();
    assert_eq!(show(&mut connection, NOW, b"\x81\x00"), 2);
    let _ = connection.handle_end(NOW);
    assert_eq!(connection.state(), State::Upgraded);
}
