// Protects its randomness as told, and answers each line with its state and a draw, as JSON. The line `restored`
// first tells of a restore, and `reseeded` also says that the kernel has reseeded.
//
//   node clone-entropy.mjs throw|warn

import { randomBytes } from 'node:crypto'
import { createInterface } from 'node:readline'
import { notifyRestored, protectRandomness } from 'vmclock/clones'

const [onNoEntropy] = process.argv.slice(2)
const warnings = []
// Without Node's own listener, which prints to the console.
process.removeAllListeners('warning').on('warning', ({ code }) => warnings.push(code))

let protection
let refused
try {
  protection = protectRandomness({ onNoEntropy })
} catch ({ code, message }) {
  refused = { code, message }
}
console.log('ready')
for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'end') process.exit(0)
  if (line === 'restored') notifyRestored()
  if (line === 'reseeded') notifyRestored({ kernelReseeded: true })
  const startMs = performance.now()
  const draw = drawn()
  const ms = Math.round(performance.now() - startMs)
  // The warning is emitted in a later turn.
  await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
  console.log(
    JSON.stringify({
      ...(refused ?? {
        entropy: protection.entropy,
        signal: protection.signal.kind,
        isSynchronous: protection.signal.isSynchronous,
      }),
      ...draw,
      ms,
      warnings,
    }),
  )
}

function drawn() {
  try {
    return { value: randomBytes(16).toString('hex') }
  } catch (error) {
    return { failed: `${error}` }
  }
}
