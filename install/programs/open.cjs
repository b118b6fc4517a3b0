// Prints as JSON how the package answers where its native part may be unusable.

const { VmClock } = require('vmclock')

const result = { isSupported: VmClock.isSupported() }
try {
  VmClock.open('/nonexistent')
} catch ({ code, message, remedy, cause }) {
  Object.assign(result, { code, message, remedy, cause: cause?.code })
}
console.log(JSON.stringify(result))
