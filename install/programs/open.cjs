// Says, as JSON, what a user is told where the native part cannot be used.

const { VmClock } = require('vmclock')

const told = { isSupported: VmClock.isSupported() }
try {
  VmClock.open('/nonexistent')
} catch ({ code, message, cause }) {
  Object.assign(told, { code, message, cause: cause?.code })
}
console.log(JSON.stringify(told))
