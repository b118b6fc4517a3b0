// Runs the addon's own Rust tests: draws through a real OpenSSL, and the names of clocks.

import { asProgram, CommandFailed, capture, run } from './command.mjs'

/** Lets a test program of the addon link without Node's functions. Only Node has them, and no test calls them. */
export const WITHOUT_NODE = '-Clink-arg=-Wl,--unresolved-symbols=ignore-all'

// Not `cargo test`, which would compile everything else with the flag too.
const BUILD = ['rustc', '-p', 'vmclock-napi', '--lib', '--profile', 'test']

await asProgram(import.meta.url, async () => {
  const words = [...BUILD, '--message-format', 'json-render-diagnostics', '--', WITHOUT_NODE]
  const messages = (await capture('cargo', words)).trim().split('\n')
  const program = messages.map((line) => JSON.parse(line).executable).findLast(Boolean)
  if (program === undefined) throw new CommandFailed('cargo', words, 'no program was built')
  await run(program, [])
})
