// The doctor in guests that really are so: what is wrong first is what was broken.

import assert from 'node:assert/strict'
import { withGuest } from '../guest.mjs'
import { inShell, program } from '../in-guest.mjs'

const COMMAND = 'node /node_modules/vmclock/dist/cli.cjs doctor'
const PLATFORM = '/sys/bus/platform'
const CLOCKSOURCE = '/sys/devices/system/clocksource/clocksource0/current_clocksource'

export const inGuest = {
  async 'doctor: a guest that has everything lacks nothing but a synchronized system clock'(guest) {
    const { verdict, firstProblem, states, checks } = await diagnosis(guest)
    const { counter, ...others } = states
    assert.deepEqual(others, {
      platform: 'ok',
      machine: 'ok',
      container: 'ok',
      device: 'ok',
      'driver-built': 'ok',
      'driver-loaded': 'ok',
      'driver-bound': 'ok',
      'device-file': 'ok',
      access: 'ok',
      page: 'ok',
      time: 'ok',
      cost: 'ok',
      phc: 'ok',
      'phc-timescale': 'ok',
      'system-clock': 'warning',
    })
    // The emulated TSC is not called invariant, though it is; Arm's always is.
    assert.equal(counter, guest.machineName === 'x86-64' ? 'warning' : 'ok')
    assert.equal(verdict, 'warning')
    assert.equal(firstProblem.name, guest.machineName === 'x86-64' ? 'counter' : 'system-clock')
    assert.match(checks.get('machine').finding, /QEMU/)
    console.log(`    ${checks.get('cost').finding}`)
  },
}

export const ownGuests = {
  'doctor: a driver without a device is named so'(prepared) {
    return withGuest(prepared, { isDescribed: false }, async (guest) => {
      const { firstProblem } = await diagnosis(guest)
      console.log(firstProblem)
    })
  },
}

// What is wrong first, every check's state by its name, and the checks themselves.
async function diagnosis(guest, ...args) {
  const [line] = await program(guest, 'doctor.mjs', args)
  const { checks, ...rest } = JSON.parse(line)
  console.log(checks)
  const states = Object.fromEntries(checks.map(({ name, state }) => [name, state]))
  return { ...rest, states, checks: new Map(checks.map((check) => [check.name, check])) }
}
