// Lets Node run the specs' TypeScript, and nothing else through that compiler: what is built is to be
// tested as it is, and the compiler would rewrite its classes.

import Module from 'node:module'

// The specs compare what commands print, and Node warns on standard error of this variable beside NO_COLOR.
delete process.env.FORCE_COLOR

const plain = { ...Module._extensions }
await import('@oxc-node/core/register')
for (const extension of ['.js', '.cjs']) {
  if (plain[extension] === undefined) delete Module._extensions[extension]
  else Module._extensions[extension] = plain[extension]
}
