// Prints how the protection of clones is here: `active`, or the code of the refusal.

const { protectRandomness } = require('vmclock/clones')

let outcome
try {
  outcome = protectRandomness({ onNoEntropy: 'warn' }).active ? 'active' : 'inactive'
} catch (error) {
  outcome = error.code
}
// What the runtime draws, it goes on drawing.
require('node:crypto').randomBytes(16)
console.log(outcome)
