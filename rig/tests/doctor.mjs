// The doctor in guests that really are so: what it names first is what was broken.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture } from '../../tools/command.mjs'
import { withGuest } from '../guest.mjs'
import { inShell, program } from '../in-guest.mjs'
import { hostTools } from '../parts.mjs'
import { scratchFolder } from '../scratch.mjs'

const COMMAND = 'node /node_modules/vmclock/dist/cli.cjs doctor'
const CLOCKSOURCES = '/sys/devices/system/clocksource/clocksource0'
const DRIVER = '/sys/bus/platform/drivers/vmclock'
const GUEST_USER = '1000'

export const inGuest = {
  async 'doctor: a guest that has everything lacks nothing but a synchronized system clock'(guest) {
    const { verdict, firstProblem, states, checks } = await diagnosis(guest)
    const expected = Object.fromEntries(Object.keys(states).map((name) => [name, 'ok']))
    assert.deepEqual(states, { ...expected, 'system-clock': 'warning' })
    assert.equal(Object.keys(states).length, 16)
    assert.equal(verdict, 'warning')
    assert.match(firstProblem.finding, /not synchronized, and nothing here would do it/)
    assert.match(firstProblem.remedy, /refclock PHC \/dev\/ptp0 tai/)
    assert.match(
      checks.get('machine').finding,
      /under QEMU (without KVM \(CPUID says TCGTCGTCGTCG\)|\(the device tree has fw-cfg\))$/,
    )
    assert.equal(checks.get('phc-timescale').details.timescale, 'tai')
    console.log(`    ${checks.get('cost').finding}`)
  },

  async 'doctor: the command says the same, and ends with 0 or 1'(guest) {
    const inWords = await inShell(guest, COMMAND)
    assert.match(inWords.at(-2), /^first warning +system-clock$/)
    await brokenBy(
      'chmod 0600 /dev/vmclock0 && mv /dev/vmclock0 /dev/away',
      'mv /dev/away /dev/vmclock0',
      guest,
      async () => {
        const [json, exitCode] = await inShell(guest, `${COMMAND} --json; echo $?`)
        assert.equal(JSON.parse(json).firstProblem.name, 'device-file')
        assert.equal(exitCode, '1')
      },
    )
  },

  async 'doctor: a device without its driver'(guest) {
    const { details } = (await diagnosis(guest)).checks.get('driver-bound')
    const [device] = details.devices
    const isModule = (await inShell(guest, 'ls -d /driver.ko.xz 2>/dev/null; true')).length > 0
    const load = 'xz -dc /driver.ko.xz > /tmp/d.ko && insmod /tmp/d.ko && rm /tmp/d.ko'
    if (isModule) {
      await brokenBy('rmmod ptp_vmclock', load, guest, async () => {
        const { verdict, firstProblem, states } = await diagnosis(guest)
        assert.equal(verdict, 'wrong')
        assert.equal(firstProblem.name, 'driver-loaded')
        assert.match(firstProblem.remedy, /modprobe ptp_vmclock/)
        // There is neither a configuration nor a list of modules in this guest.
        assert.equal(states['driver-built'], 'unknown')
        assert.equal(states.page, 'skipped')
      })
    }
    await brokenBy(
      `echo ${device} > ${DRIVER}/unbind`,
      `echo ${device} > ${DRIVER}/bind`,
      guest,
      async () => {
        const { verdict, firstProblem, states } = await diagnosis(guest)
        assert.equal(verdict, 'wrong')
        assert.equal(firstProblem.name, 'driver-bound')
        assert.ok(firstProblem.remedy.includes(`echo ${device} > ${DRIVER}/bind`))
        assert.equal(states['driver-loaded'], 'ok')
      },
    )
    assert.equal((await diagnosis(guest)).firstProblem.name, 'system-clock')
  },

  async 'doctor: a page with the marker only'(guest) {
    const told = guest.timeFields
    guest.tellNoTime()
    try {
      const { verdict, firstProblem, states } = await diagnosis(guest)
      assert.equal(firstProblem.name, 'time')
      assert.match(firstProblem.finding, /only the disruption marker: continuity and events work/)
      assert.match(firstProblem.remedy, /vmclock publish/)
      assert.equal(verdict, 'warning')
      assert.equal(states['phc-timescale'], 'skipped')
    } finally {
      guest.page.write(told)
    }
  },

  async 'doctor: a page for the counter of another architecture'(guest) {
    const told = guest.timeFields
    guest.page.write({ counterId: 1 - told.counterId })
    try {
      const { verdict, firstProblem } = await diagnosis(guest)
      assert.equal(verdict, 'wrong')
      assert.equal(firstProblem.name, 'counter')
      assert.equal(firstProblem.details.code, 'ERR_VMCLOCK_WRONG_COUNTER')
    } finally {
      guest.page.write(told)
    }
  },

  async 'doctor: a system clock on another counter'(guest) {
    const [available] = await inShell(guest, `cat ${CLOCKSOURCES}/available_clocksource`)
    const [current] = await inShell(guest, `cat ${CLOCKSOURCES}/current_clocksource`)
    const other = available.split(/\s+/).find((name) => name !== '' && name !== current)
    if (other === undefined) return `this machine's only clock source is ${current}`
    const choose = (name) => `echo ${name} > ${CLOCKSOURCES}/current_clocksource`
    await brokenBy(choose(other), choose(current), guest, async () => {
      const { firstProblem } = await diagnosis(guest)
      assert.equal(firstProblem.name, 'counter')
      assert.ok(firstProblem.finding.includes(`runs on ${other}, not on ${current}`))
      assert.ok(firstProblem.remedy.includes(choose(current)))
    })
  },

  async 'doctor: a user who may not read the device, and then may by the udev rules'(guest) {
    const { verdict, firstProblem, states } = await diagnosis(guest, GUEST_USER)
    assert.equal(verdict, 'wrong')
    assert.equal(firstProblem.name, 'access')
    const [, pageRule, ptpRule] = await inShell(guest, `${COMMAND} --udev-rule`)
    assert.ok(firstProblem.remedy.includes(pageRule))
    assert.equal(states['device-file'], 'ok')
    // What the rules say, for want of a udev.
    assert.equal(pageRule, 'KERNEL=="vmclock*", MODE="0444"')
    await brokenBy('chmod 0444 /dev/vmclock0', 'chmod 0600 /dev/vmclock0', guest, async () => {
      const { verdict, firstProblem } = await diagnosis(guest, GUEST_USER)
      assert.equal(verdict, 'warning')
      assert.equal(firstProblem.name, 'phc-timescale')
      assert.equal(firstProblem.details.code, 'ERR_VMCLOCK_ACCESS')
      assert.equal(ptpRule, 'SUBSYSTEM=="ptp", ATTR{clock_name}=="vmclock*", MODE="0444"')
      await brokenBy('chmod 0444 /dev/ptp0', 'chmod 0600 /dev/ptp0', guest, async () => {
        const { firstProblem } = await diagnosis(guest, GUEST_USER)
        assert.equal(firstProblem.name, 'system-clock')
      })
    })
  },

  async 'doctor: a page that had no time when the driver looked has no PTP clock, until it looks again'(
    guest,
  ) {
    const told = guest.timeFields
    const [device] = (await diagnosis(guest)).checks.get('driver-bound').details.devices
    const again = `echo ${device} > ${DRIVER}/unbind; echo ${device} > ${DRIVER}/bind`
    guest.tellNoTime()
    try {
      await inShell(guest, again)
      assert.equal((await diagnosis(guest)).states.phc, 'skipped')
    } finally {
      guest.page.write(told)
    }
    const { firstProblem } = await diagnosis(guest)
    assert.equal(firstProblem.name, 'phc')
    assert.ok(firstProblem.remedy.includes(again))
    await inShell(guest, again)
    assert.equal((await diagnosis(guest)).states['phc-timescale'], 'ok')
  },
}

export const ownGuests = {
  'doctor: a driver without a device'(prepared) {
    return withGuest(prepared, { isDescribed: false }, async (guest) => {
      const { verdict, firstProblem, states } = await diagnosis(guest)
      assert.equal(verdict, 'wrong')
      assert.equal(firstProblem.name, 'device')
      assert.match(firstProblem.finding, /the driver is loaded and finds none to drive/)
      assert.match(firstProblem.remedy, /vmclock publish/)
      assert.equal(states.machine, 'ok')
    })
  },

  async 'doctor: udevadm has nothing to say against the udev rules'() {
    const { program: tool } = await hostTools('udev', ['udev'])
    const scratch = scratchFolder()
    try {
      const rules = join(scratch.folder, '60-vmclock.rules')
      const printed = await capture('node', ['dist/cli.cjs', 'doctor', '--udev-rule'])
      writeFileSync(rules, printed)
      const said = await capture(tool('udevadm'), ['verify', rules])
      assert.match(said, /1 udev rules files have been checked\.\n.*Success: 1\n.*Fail: {4}0/)
      writeFileSync(rules, printed.replace('ATTR{clock_name}==', 'ATTR{clock_name}=>'))
      await assert.rejects(capture(tool('udevadm'), ['verify', rules]))
    } finally {
      scratch.remove()
    }
  },
}

// Breaks something with a command, looks, and mends it with another, however that went.
async function brokenBy(breaking, mending, guest, look) {
  await inShell(guest, breaking)
  try {
    await look()
  } finally {
    await inShell(guest, mending)
  }
}

// What the doctor says: every check's state by its name as well, and the checks by theirs.
async function diagnosis(guest, ...args) {
  const [line] = await program(guest, 'doctor.mjs', args)
  const { checks, ...rest } = JSON.parse(line)
  const states = Object.fromEntries(checks.map(({ name, state }) => [name, state]))
  return { ...rest, states, checks: new Map(checks.map((check) => [check.name, check])) }
}
