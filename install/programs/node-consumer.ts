// A user's program with Node's types. The tests type-check it and do not run it.

import { EventEmitter, on, once } from 'node:events'
import { VmClock, type VmClockWatcher } from 'vmclock'

const { signal } = new AbortController()
const watcher: VmClockWatcher = VmClock.open().watch({ signal })

// A watcher is accepted wherever Node's types want an emitter.
export const first: Promise<unknown[]> = once(watcher, 'disruption', { signal })
export const all: AsyncIterable<unknown> = on(watcher, 'disruption')
export const emitter: EventEmitter = watcher
export const isEmitter: boolean = watcher instanceof EventEmitter
