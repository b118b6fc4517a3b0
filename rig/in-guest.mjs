// Runs things in a guest that have to end well, and gives the lines that they printed.

import assert from 'node:assert/strict'
import { anyFields, pairWithHost } from './page.mjs'

/**
 * A program of `rig/programs/`; `onText` gets what it prints, a line at a time. It may take `timeoutMs`, or
 * as long as the console lets any command take.
 */
export function program(guest, name, args, onText, timeoutMs) {
  return lines(onText, (options) => guest.run(name, args, { ...options, timeoutMs }))
}

/** A command of the guest's shell. */
export function inShell(guest, command) {
  return lines(undefined, (options) => guest.console.execute(command, options))
}

/**
 * A reading of the guest's, by this document, against the host's clock, which has to meet it: each is
 * an interval that holds the time.
 */
export async function trueReading(guest, abi) {
  const { answer, epochNs, widthNs } = await guest.converse('reading.mjs', [abi], pairWithHost)
  const [earliestNs, latestNs, maxErrorNs] = answer.split(' ').map(BigInt)
  assert.ok(
    earliestNs <= epochNs + widthNs / 2n && epochNs - widthNs / 2n <= latestNs,
    `the guest says ${earliestNs} to ${latestNs}, the host ${epochNs} within ${widthNs / 2n}`,
  )
  return { maxErrorNs }
}

/**
 * Compares what is mapped with what the driver reads, so many times and over so many updates of a page
 * that is rewritten all the while.
 */
export async function compareFields(guest, { comparisons, updates }) {
  const told = guest.timeFields
  const writer = setInterval(() => guest.page.write(anyFields()), 2)
  try {
    return await program(guest, 'device-fields.mjs', [`${comparisons}`, `${updates}`])
  } finally {
    clearInterval(writer)
    guest.page.write(told)
  }
}

/** Takes the device from its driver and gives it back, which looks at the page anew. */
export function bindAgain(guest) {
  const driver = '/sys/bus/platform/drivers/vmclock'
  const device = `$(ls ${driver} | grep -vxE 'bind|unbind|uevent|module')`
  return inShell(guest, `d=${device}; echo $d > ${driver}/unbind; echo $d > ${driver}/bind`)
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
        // Fails the test, and not the console that has called here.
        failures.push(error)
      }
    },
  })
  assert.equal(exitCode, 0, printed)
  assert.deepEqual(failures, [], printed)
  return printed.split('\n').filter((line) => line !== '')
}
