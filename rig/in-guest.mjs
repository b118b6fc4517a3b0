// Runs programs and commands in a guest, demands exit code 0, and returns the lines that they print.

import assert from 'node:assert/strict'
import { anyFields, pairWithHost } from './page.mjs'

/**
 * Runs a program of `rig/programs/`. `onText` gets each line that it prints. It must end within `timeoutMs`,
 * or within the console's default.
 */
export function program(guest, name, args, onText, timeoutMs) {
  return lines(onText, (options) => guest.run(name, args, { ...options, timeoutMs }))
}

/** Runs a command in the guest's shell. */
export function inShell(guest, command) {
  return lines(undefined, (options) => guest.console.execute(command, options))
}

/**
 * Compares a reading in the guest, under this ABI version, with the host's clock. Each is an interval that
 * contains the time, so the two must overlap.
 */
export async function trueReading(guest, abi) {
  const { answer, epochNs, widthNs } = await guest.converse('reading.mjs', [abi], pairWithHost)
  const [earliestNs, latestNs, maxErrorNs] = answer.split(' ').map(BigInt)
  assert.ok(
    earliestNs <= epochNs + widthNs / 2n && epochNs - widthNs / 2n <= latestNs,
    `the guest reads ${earliestNs} to ${latestNs}, the host ${epochNs} within ${widthNs / 2n}`,
  )
  return { maxErrorNs }
}

/**
 * Compares the mapped page with the driver's `read`, this many times and over this many updates, while the
 * host rewrites the page.
 */
export async function compareFields(guest, { comparisons, updates }) {
  const { timeFields } = guest
  const writer = setInterval(() => guest.page.write(anyFields()), 2)
  try {
    return await program(guest, 'device-fields.mjs', [`${comparisons}`, `${updates}`])
  } finally {
    clearInterval(writer)
    guest.page.write(timeFields)
  }
}

const DRIVER = '/sys/bus/platform/drivers/vmclock'
const DEVICE = `$(ls ${DRIVER} | grep -vxE 'bind|unbind|uevent|module')`

/** Unbinds the device from its driver and binds it again, so that the driver reads the page again. */
export function bindAgain(guest) {
  return inShell(guest, `d=${DEVICE}; echo $d > ${DRIVER}/unbind; echo $d > ${DRIVER}/bind`)
}

/** Unbinds the device from its driver, so that the guest has no page any more. */
export function unbindDriver(guest) {
  return inShell(guest, `d=${DEVICE}; echo $d > ${DRIVER}/unbind; test ! -e /dev/vmclock0`)
}

async function lines(onText, execute) {
  let printed = ''
  const failures = []
  const exitCode = await execute({
    onText(text) {
      printed += text
      try {
        onText?.(text)
      } catch (error) {
        // Collected, because an error must fail the test and not the console.
        failures.push(error)
      }
    },
  })
  assert.equal(exitCode, 0, printed)
  assert.deepEqual(failures, [], printed)
  return printed.split('\n').filter((line) => line !== '')
}
