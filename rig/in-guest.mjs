// Runs things in a guest that have to end well, and gives the lines that they printed.

import assert from 'node:assert/strict'

/** A program of `rig/programs/`; `onText` gets what it prints, a line at a time. */
export function program(guest, name, args, onText) {
  return lines(onText, (options) => guest.run(name, args, options))
}

/** A command of the guest's shell. */
export function inShell(guest, command) {
  return lines(undefined, (options) => guest.console.execute(command, options))
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
