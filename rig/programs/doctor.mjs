// Prints the diagnosis of a page as one line of JSON: as root, or as the user whose number is given.
//
//   node doctor.mjs PAGE [USER]

import { diagnose } from 'vmclock/doctor'

const [path, user] = process.argv.slice(2)
if (user !== undefined) {
  process.setgroups([])
  process.setgid(Number(user))
  process.setuid(Number(user))
}
console.log(JSON.stringify(diagnose({ path })))
