// Prints `diagnose()` as one line of JSON: as root, or as the user whose number is given; of a page if one is
// given.

import { diagnose } from 'vmclock/doctor'

const [user, path] = process.argv.slice(2)
if (user !== undefined) {
  process.setgroups([])
  process.setgid(Number(user))
  process.setuid(Number(user))
}
console.log(JSON.stringify(diagnose({ path })))
