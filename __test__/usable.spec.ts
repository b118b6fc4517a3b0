// A program can ask whether a clock has time now, and can take the reason for which it has none as a value.

import test from 'ava'
import { Reading, VmClock, VmClockError } from 'vmclock'
import { liveFields, open, page } from './pages'

test('tryRead returns a reading, or the error that read throws', (t) => {
  const published = page(t, liveFields(t))
  const clock = open(t, published.path, { requireSynchronized: true })
  t.true(clock.tryRead() instanceof Reading)
  for (const clockStatus of [1, 3, 4]) {
    published.write({ clockStatus })
    const error = clock.tryRead()
    if (!(error instanceof VmClockError)) return t.fail(`a reading in status ${clockStatus}`)
    const { code, message, remedy } = error
    t.like(
      t.throws(() => clock.read()),
      { code, message, remedy },
    )
    t.is(code, 'ERR_VMCLOCK_UNSYNCHRONIZED')
  }
  published.write({ clockStatus: 2 })
  t.true(clock.tryRead() instanceof Reading)
})

test('isUsable is true exactly if a call for the time would succeed now', (t) => {
  const published = page(t, liveFields(t))
  const clock = open(t, published.path)
  const strict = open(t, published.path, { requireSynchronized: true })
  const states: Array<[clockStatus: number, usable: boolean, strictlyUsable: boolean]> = [
    [2, true, true],
    [3, true, false],
    [4, false, false],
    [1, false, false],
    [2, true, true],
  ]
  for (const [clockStatus, usable, strictlyUsable] of states) {
    published.write({ clockStatus })
    t.deepEqual([clock.isUsable, strict.isUsable], [usable, strictlyUsable], `${clockStatus}`)
  }
})

test('a page without time is not usable, and tryRead says so', (t) => {
  const clock = open(t, page(t, {}).path)
  t.false(clock.isUsable)
  t.like(clock.tryRead(), { code: 'ERR_VMCLOCK_NO_TIME' })
})

test('after close isUsable is false, and tryRead returns the error', (t) => {
  const clock = VmClock.open(page(t, liveFields(t)).path)
  clock.close()
  t.false(clock.isUsable)
  t.like(clock.tryRead(), { code: 'ERR_VMCLOCK_CLOSED' })
})
