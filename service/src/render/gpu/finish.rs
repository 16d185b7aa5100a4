//! The thread that waits for the device: takes finished frames out of their buffers, and hands the buffers back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use super::batch::{Flight, Placed};
use super::device::Device;
use super::slot::Slot;
use super::{Event, Host, TextureFormat};

/// Finishes one submission after another until there are no more. Each slot comes back, lost or not, so that nobody waits for one in vain.
/// `drew` is set once frames have come.
pub fn run(
    device: &Device,
    host: &dyn Host,
    flights: mpsc::Receiver<Flight>,
    free: mpsc::Sender<Slot>,
    drew: &AtomicBool,
) {
    for mut flight in flights {
        let frames = flight.batch.0.len();
        let came = device.wait(flight.submission)
            && flight.mapping.done(device.hang())
            && !device.lost.is();
        let format = device.info.textures;
        if came && deliver(&flight.slot, &mut flight.batch.0, flight.frames, format) {
            if frames > 0 {
                drew.store(true, Ordering::Release);
                host.tell(Event::Batch { frames });
            }
        } else {
            device.lost.set("what was submitted did not come back");
        }
        // Undrawn ones go back to their callers here.
        drop(flight.batch);
        drop(free.send(flight.slot));
    }
}

/// Copies frames out and ends their jobs. False if they cannot be read.
fn deliver(slot: &Slot, placed: &mut Vec<Placed>, bytes: u64, format: TextureFormat) -> bool {
    if bytes == 0 {
        return true;
    }
    let Ok(frames) = slot.readback.get_mapped_range(..bytes) else {
        return false;
    };
    for Placed { mut job, at, bytes } in placed.drain(..) {
        if job.is_wanted() {
            let frame = &frames[at as usize..][..bytes as usize];
            job.out().data().copy_from_slice(frame);
            job.end(Ok(format));
        }
    }
    drop(frames);
    slot.readback.unmap();
    true
}
