//! Bytes between a port and what speaks over it.

use core::future::Future;

use embassy_futures::select::{Either3, select3};
use embedded_io_async::{Read, Write};
use tidegate_embedded_io::Error;
use tidegate_link::{Link, Micros};
use tidegate_mqtt::{Client, Event, Incoming, Line};

use crate::timer::Timer;

/// Bytes of one read.
const READ: usize = 64;
/// Where nothing is due, the clock is looked at all the same.
const IDLE: Micros = Micros::from_millis(60_000);

/// Sends what the link has to say, then waits until something comes in, is due, or `wake` is ready, and
/// gives the link what came. `frame` has to have [`Link::MAX_OUTPUT`] bytes.
///
/// # Errors
/// See [`Error`]. The link lives on: what was lost is sent again.
pub async fn carry_link<
    T: Read + Write,
    const FRAME: usize,
    const WINDOW: usize,
    const MESSAGE: usize,
>(
    port: &mut T,
    timer: &impl Timer,
    frame: &mut [u8],
    link: &mut Link<FRAME, WINDOW, MESSAGE>,
    wake: impl Future<Output = ()>,
) -> Result<(), Error<T::Error>> {
    send_frames(port, timer, frame, link).await?;
    port.flush().await?;
    let mut bytes = [0; READ];
    let count = wait(port, timer, link.next_deadline(), wake, &mut bytes).await?;
    link.handle_input(timer.now(), bytes.get(..count).unwrap_or_default());
    Ok(())
}

/// The same, with the MQTT client that speaks over the link; hands over what has come in for it.
///
/// # Errors
/// See [`Error`].
pub async fn carry_line<
    T: Read + Write,
    const FRAME: usize,
    const WINDOW: usize,
    const MESSAGE: usize,
>(
    port: &mut T,
    timer: &impl Timer,
    frame: &mut [u8],
    (link, line, client): (&mut Link<FRAME, WINDOW, MESSAGE>, &mut Line, &mut Client<'_>),
    wake: impl Future<Output = ()>,
    mut take: impl FnMut(Incoming<'_>),
) -> Result<(), Error<T::Error>> {
    loop {
        // What was sent has made room for more.
        line.exchange(timer.now(), link, client, &mut take);
        if send_frames(port, timer, frame, link).await? == 0 {
            break;
        }
    }
    port.flush().await?;
    let due = [link.next_deadline(), line.next_deadline(client)].into_iter().flatten().min();
    let mut bytes = [0; READ];
    let count = wait(port, timer, due, wake, &mut bytes).await?;
    link.handle_input(timer.now(), bytes.get(..count).unwrap_or_default());
    line.exchange(timer.now(), link, client, &mut take);
    Ok(())
}

/// Sends what an MQTT client on a stream of its own, such as TCP, has to say, then waits until something
/// comes in, is due, or `wake` is ready; hands over events. After [`Event::Refused`] and
/// [`Event::Down`], and after an error, close the stream, say [`Client::disconnected`] and connect again later.
///
/// # Errors
/// See [`Error`].
pub async fn carry_client<T: Read + Write>(
    port: &mut T,
    timer: &impl Timer,
    client: &mut Client<'_>,
    wake: impl Future<Output = ()>,
    mut take: impl FnMut(Event<'_>),
) -> Result<(), Error<T::Error>> {
    loop {
        let now = timer.now();
        let bytes = client.output(now);
        if bytes.is_empty() {
            break;
        }
        port.write_all(bytes).await?;
        let count = bytes.len();
        client.sent(now, count);
    }
    port.flush().await?;
    let mut bytes = [0; READ];
    let count = wait(port, timer, client.next_deadline(), wake, &mut bytes).await?;
    let mut rest = bytes.get(..count).unwrap_or_default();
    while let Some(event) = client.handle_input(timer.now(), &mut rest) {
        take(event);
    }
    Ok(())
}

/// Bytes that came in; 0 when something else happened first.
async fn wait<T: Read>(
    port: &mut T,
    timer: &impl Timer,
    due: Option<Micros>,
    wake: impl Future<Output = ()>,
    bytes: &mut [u8],
) -> Result<usize, Error<T::Error>> {
    let until = due.unwrap_or(timer.now().after(IDLE));
    match select3(port.read(bytes), timer.wait_until(until), wake).await {
        Either3::First(Ok(0)) => Err(Error::Closed),
        Either3::First(count) => Ok(count?),
        Either3::Second(()) | Either3::Third(()) => Ok(0),
    }
}

/// How many there were.
async fn send_frames<T: Write, const FRAME: usize, const WINDOW: usize, const MESSAGE: usize>(
    port: &mut T,
    timer: &impl Timer,
    frame: &mut [u8],
    link: &mut Link<FRAME, WINDOW, MESSAGE>,
) -> Result<usize, Error<T::Error>> {
    if frame.len() < Link::<FRAME, WINDOW, MESSAGE>::MAX_OUTPUT {
        return Err(Error::Buffer);
    }
    let mut frames = 0;
    loop {
        let length = link.poll_output(timer.now(), frame);
        if length == 0 {
            return Ok(frames);
        }
        port.write_all(frame.get(..length).unwrap_or_default()).await?;
        frames += 1;
    }
}
