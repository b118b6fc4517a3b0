// A page that is written by hand holds exactly the fields that were written.

import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import test from 'ava'
import { VmClockPage } from 'vmclock/testing'
import { contents, counterNow, held, newPath, open, page, refuses, timeFields } from './pages'

test('a page without given fields is complete and describes nothing', (t) => {
  const { raw } = open(t, page(t, {}).path).snapshot()
  t.deepEqual(
    [raw.size, raw.version, raw.counterId, raw.clockStatus, raw.seqCount],
    [4096, 1, 0xff, 0, 2],
  )
})

test('an update moves the sequence number by two, and readers see all of it', (t) => {
  const made = page(t, {})
  const clock = open(t, made.path)
  made.write({ disruptionMarker: 1n, flags: 2n })
  t.is(made.seqCount, 4)
  const snapshot = clock.snapshot()
  t.is(snapshot.disruptionMarker, 1n)
  t.true(snapshot.disruptionSoon)
  t.is(snapshot.raw.seqCount, 4)
})

test('an update leaves the fields that it does not name', (t) => {
  const made = page(t, { disruptionMarker: 5n, vmGenerationCounter: 6n })
  made.write({ vmGenerationCounter: 7n })
  const { raw } = open(t, made.path).snapshot()
  t.deepEqual([raw.disruptionMarker, raw.vmGenerationCounter], [5n, 7n])
})

test('readers notice an unguarded write only after the sequence number changes', (t) => {
  const made = page(t, {})
  const clock = open(t, made.path)
  const token = clock.continuityToken()
  made.writeUnguarded({ disruptionMarker: 1n })
  t.is(made.seqCount, 2)
  t.true(clock.isContinuous(token))
  made.writeUnguarded({ seqCount: 4 })
  t.false(clock.isContinuous(token))
})

test('begin makes the sequence number odd, end even', (t) => {
  const made = page(t, {})
  made.begin()
  t.is(made.seqCount, 3)
  made.end()
  t.is(made.seqCount, 4)
})

test('the sequence number wraps, and leaves out 0', (t) => {
  const made = page(t, { seqCount: 0xffff_fffe })
  const clock = open(t, made.path)
  t.is(clock.snapshot().raw.seqCount, 0xffff_fffe)
  made.write({ disruptionMarker: 4n })
  t.is(made.seqCount, 2)
  t.is(clock.snapshot().disruptionMarker, 4n)
})

test('a page may be at an offset in a file of any length', (t) => {
  const path = newPath(t)
  VmClockPage.create(
    path,
    { disruptionMarker: 1n },
    { fileBytes: 12_288, pageOffset: 4096 },
  ).close()
  const again = VmClockPage.open(path, 4096)
  again.write({ disruptionMarker: 0x1122334455667788n })
  again.close()
  const bytes = readFileSync(path)
  t.is(bytes.length, 12_288)
  t.is(bytes.toString('latin1', 4096, 4100), 'VCLK')
  t.is(bytes.readBigUInt64LE(4096 + 0x10), 0x1122334455667788n)
  t.true(bytes.subarray(0, 4096).every((byte) => byte === 0))
})

test('a new page replaces an old one, and readers of the old one continue', (t) => {
  const path = newPath(t)
  VmClockPage.create(path, { disruptionMarker: 1n }).close()
  const clock = open(t, path)
  VmClockPage.create(path, { disruptionMarker: 2n }).close()
  t.is(clock.continuityToken().disruptionMarker, 1n)
  t.is(open(t, path).continuityToken().disruptionMarker, 2n)
  t.deepEqual(contents(dirname(path)), ['page'])
})

test('closing a page unmaps it and leaves the file', (t) => {
  const made = page(t, timeFields(counterNow(t)))
  made.close()
  made.close()
  t.true(made.closed)
  t.deepEqual(held(made.path), [])
  t.deepEqual(contents(dirname(made.path)), ['page'])
})

test('a value that does not fit its field is refused', (t) => {
  const made = page(t, {})
  const wrong = (fields: object, remedy: RegExp): void => {
    refuses(t, () => made.write(fields), 'ERR_VMCLOCK_INVALID_ARGUMENT', remedy)
  }
  wrong({ clockStatus: 256 }, /clockStatus must be a whole number from 0 to 255/)
  wrong({ clockStatus: 2n }, /clockStatus must be a whole number .* and this is 2n/)
  wrong({ clockStatus: 1.5 }, /whole number/)
  wrong({ clockStatus: Number.NaN }, /whole number/)
  wrong({ taiOffsetSec: 32_768 }, /from -32768 to 32767/)
  wrong({ timeSec: 1 }, /timeSec must be a bigint from 0n/)
  wrong({ timeSec: -1n }, /timeSec must be a bigint from 0n/)
  wrong({ timeSec: 2n ** 64n }, /timeSec must be a bigint from 0n/)
  wrong({ time_sec: 1n }, /fields have no "time_sec" use only: magic, /)
  wrong([], /plain object/)
  t.is(made.seqCount, 2)
})

test('a layout that cannot hold a page is refused and leaves no file', (t) => {
  const path = newPath(t)
  for (const layout of [{ fileBytes: 0 }, { pageOffset: 4 }, { pageOffset: 4096 }]) {
    refuses(t, () => VmClockPage.create(path, {}, layout), 'ERR_VMCLOCK_INVALID_ARGUMENT', /page/)
  }
  t.deepEqual(contents(dirname(path)), [])
})
