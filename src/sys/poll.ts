// Readiness of a file descriptor on the event loop of the thread that asks (libuv's poll, through koffi).
//
// Traps:
// - koffi calls back outside of Node's callback scope: promises resolved there would wait for the next unrelated event,
//   and an exception would vanish. The callback is therefore run by setImmediate, which follows in the same turn.
// - libuv gives a watch up when the descriptor has an error (a netlink socket that was overrun, an ICMP error): after
//   the callback, whose read takes the error away, it is begun anew.
// - libuv makes the descriptor non-blocking, for everybody who uses it.
import koffi from 'koffi';

export interface PollHandle {
  /** Stops watching; no callback follows. The descriptor stays open and may be handed to somebody else at once. */
  close(): void;
  /** Lets the process end although the watch is on. */
  unref(): void;
  ref(): void;
}

/** Calls `callback` whenever `fd` can be read (level triggered: as long as there is something to read). */
export function pollReadable(fd: number, callback: () => void): PollHandle {
  return poll(fd, { readable: true }, callback);
}

/** Calls `callback` whenever `fd` can be written; for a connecting socket also when the attempt has failed. */
export function pollWritable(fd: number, callback: () => void): PollHandle {
  return poll(fd, { writable: true }, callback);
}

function poll(fd: number, events: { readable?: boolean; writable?: boolean }, callback: () => void): PollHandle {
  let open = true;
  let referenced = true;
  let scheduled = false;
  const begin = (): ReturnType<typeof koffi.node.poll> =>
    // Its types name only the events; before them comes libuv's status, negative after an error.
    koffi.node.poll(fd, events, (...[status]: unknown[]) => {
      if (!open || scheduled) return;
      scheduled = true;
      setImmediate(() => {
        scheduled = false;
        if (!open) return;
        callback();
        if (typeof status === 'number' && status < 0) resume();
      });
    });
  // The closures refer to `handle`, which keeps the native object alive for as long as it may call.
  let handle = begin();
  const resume = (): void => {
    if (!open) return;
    handle.close();
    handle = begin();
    if (!referenced) handle.unref();
  };
  return {
    close() {
      if (open) handle.close();
      open = false;
    },
    unref() {
      referenced = false;
      handle.unref();
    },
    ref() {
      referenced = true;
      handle.ref();
    },
  };
}
