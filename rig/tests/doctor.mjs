// Runs the doctor in guests with real problems: it names the problem that the test made.

import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture } from '../../tools/command.mjs'
import { withGuest } from '../guest.mjs'
import { inShell, program } from '../in-guest.mjs'
import { hostTools } from '../parts.mjs'
import { scratchDirectory } from '../scratch.mjs'

const CLOCKSOURCES = '/sys/devices/system/clocksource/clocksource0'
const DRIVER = '/sys/bus/platform/drivers/vmclock'
const GUEST_USER = '1000'
// Without a path the doctor examines the page that `open()` takes, which the process may make itself.
const DEVICE = '/dev/vmclock0'
const COMMAND = `node /node_modules/vmclock/dist/cli.cjs doctor ${DEVICE}`

export const inGuest = {
  async 'doctor: a complete guest has no problem except an unsynchronized system clock'(guest) {
    const { verdict, firstProblem, states, checks } = await diagnosis(guest)
    const expected = Object.fromEntries(Object.keys(states).map((name) => [name, 'ok']))
    assert.deepEqual(states, {
      ...expected,
      publisher: 'skipped',
      'system-clock': 'warning',
      clockbound: 'skipped',
    })
    assert.equal(Object.keys(states).length, 20)
    assert.equal(verdict, 'warning')
    assert.match(firstProblem.finding, /not synchronized, and no daemon runs that would do it/)
    assert.match(firstProblem.remedy, /refclock PHC \/dev\/ptp0 tai/)
    assert.match(
      checks.get('machine').finding,
      /under QEMU (without KVM \(CPUID says TCGTCGTCGTCG\)|\(the device tree has fw-cfg\))$/,
    )
    assert.equal(checks.get('phc-timescale').details.timescale, 'tai')
    console.log(`    ${checks.get('cost').finding}`)
  },

  async 'doctor: the command prints the same diagnosis, and ends with 0 or 1'(guest) {
    const text = await inShell(guest, COMMAND)
    assert.match(text.at(-2), /^first warning +system-clock$/)
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

  async 'doctor: a driver that is not loaded, or not bound to the device'(guest) {
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
        // This guest has neither a kernel configuration nor a list of modules.
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

  async 'doctor: a page with only the disruption marker'(guest) {
    const fields = guest.timeFields
    guest.removeTime()
    try {
      const { verdict, firstProblem, states } = await diagnosis(guest)
      assert.equal(firstProblem.name, 'time')
      assert.match(firstProblem.finding, /only the disruption marker: continuity and events work/)
      assert.match(firstProblem.remedy, /vmclock publish/)
      assert.equal(verdict, 'warning')
      assert.equal(states['phc-timescale'], 'skipped')
    } finally {
      guest.page.write(fields)
    }
  },

  async 'doctor: a page for the counter of another architecture'(guest) {
    const fields = guest.timeFields
    guest.page.write({ counterId: 1 - fields.counterId })
    try {
      const { verdict, firstProblem } = await diagnosis(guest)
      assert.equal(verdict, 'wrong')
      assert.equal(firstProblem.name, 'counter')
      assert.equal(firstProblem.details.code, 'ERR_VMCLOCK_WRONG_COUNTER')
    } finally {
      guest.page.write(fields)
    }
  },

  async 'doctor: a system clock on another clock source'(guest) {
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

  async 'doctor: a user who may not read the device until the udev rules apply'(guest) {
    const { verdict, firstProblem, states } = await diagnosis(guest, GUEST_USER)
    assert.equal(verdict, 'wrong')
    assert.equal(firstProblem.name, 'access')
    const [, pageRule, ptpRule] = await inShell(guest, `${COMMAND} --udev-rule`)
    assert.ok(firstProblem.remedy.includes(pageRule))
    assert.equal(states['device-file'], 'ok')
    // The guest has no udev, so the test applies the rules.
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

  async 'doctor: a page whose time came after the driver started has no PTP clock'(guest) {
    const fields = guest.timeFields
    const [device] = (await diagnosis(guest)).checks.get('driver-bound').details.devices
    const again = `echo ${device} > ${DRIVER}/unbind; echo ${device} > ${DRIVER}/bind`
    guest.removeTime()
    try {
      await inShell(guest, again)
      assert.equal((await diagnosis(guest)).states.phc, 'skipped')
    } finally {
      guest.page.write(fields)
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
      assert.match(firstProblem.finding, /the driver is loaded, but has no device/)
      assert.match(firstProblem.remedy, /vmclock publish/)
      assert.equal(states.machine, 'ok')
    })
  },

  async 'doctor: udevadm accepts the udev rules'() {
    const { program: tool } = await hostTools('udev', ['udev'])
    const scratch = scratchDirectory()
    try {
      const rules = join(scratch.directory, '60-vmclock.rules')
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

// Breaks something with one command, calls `look`, and always fixes it with the other command.
async function brokenBy(breaking, fixing, guest, look) {
  await inShell(guest, breaking)
  try {
    await look()
  } finally {
    await inShell(guest, fixing)
  }
}

// Returns the diagnosis, with `checks` as a map by name, and `states` as an object by name.
async function diagnosis(guest, ...user) {
  const [line] = await program(guest, 'doctor.mjs', [DEVICE, ...user])
  const { checks, ...rest } = JSON.parse(line)
  const states = Object.fromEntries(checks.map(({ name, state }) => [name, state]))
  return { ...rest, states, checks: new Map(checks.map((check) => [check.name, check])) }
}
