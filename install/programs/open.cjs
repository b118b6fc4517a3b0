// Says, as JSON, what a user is told where the native part cannot be used.

const { VmClock } = require('vmclock')

const told = { isSupported: VmClock.isSupported() }
try {
  VmClock.open('/nonexistent')
} catch ({ code, message, remedy, cause }) {
  Object.assign(told, { code, message, remedy, cause: cause?.code })
}
console.log(JSON.stringify(told))
