const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')

const directory = mkdtempSync(join(tmpdir(), 'vmclock-jest-'))
afterAll(() => rmSync(directory, { recursive: true, force: true }))

// Jest runs tests in a realm of their own, with its own module loader.
test('the package loads and works under Jest', () => {
  const { VmClock, VmClockError } = require('vmclock')
  const { VmClockPage } = require('vmclock/testing')
  expect(VmClock.isSupported()).toBe(true)
  expect(() => VmClock.open(join(directory, 'none'))).toThrow(VmClockError)
  const path = join(directory, 'page')
  const page = VmClockPage.create(path, { disruptionMarker: 5n })
  const clock = VmClock.open(path, { timescale: 'utc' })
  const token = clock.continuityToken()
  expect(token).toEqual({ disruptionMarker: 5n, vmGeneration: undefined })
  expect(clock.isContinuous(structuredClone(token))).toBe(true)
  page.write({ disruptionMarker: 6n })
  expect(clock.isContinuous(token)).toBe(false)
  clock[Symbol.dispose ?? Symbol.for('Symbol.dispose')]()
  expect(clock.closed).toBe(true)
  page.close()
})

test('the other entry points load under Jest, with the same error class', () => {
  const { VmClockError } = require('vmclock')
  const { PtpClock } = require('vmclock/ptp')
  const { diagnose } = require('vmclock/doctor')
  expect(() => PtpClock.find('')).toThrow(VmClockError)
  expect(() => diagnose({ path: '' })).toThrow(VmClockError)
  expect(diagnose({ path: join(directory, 'none') }).verdict).toBe('wrong')
})
