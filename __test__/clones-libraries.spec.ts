// Checks the claims of docs/clones.md about other libraries with the real ones.

import { join } from 'node:path'
import test from 'ava'
import { rootDirectory, run } from './node-command'
import { newPath } from './pages'

/** Runs a program that prints how many draws `id` makes: at a second call, and at the first after a restore. */
async function drawsOf(path: string, library: string): Promise<[number, number]> {
  const { stdout, stderr } = await run([
    ...['--input-type=module', '-e'],
    `import { VmClockPage } from 'vmclock/testing'
    const page = VmClockPage.create(${JSON.stringify(path)}, { vmGenerationCounter: 1n, flags: 0x100n })
    process.env.VMCLOCK_PATH = page.path
    await import('vmclock/clones/protect')
    const { drain, perMachine } = await import('vmclock/clones')
    const { default: shared } = await import(${JSON.stringify(join(rootDirectory, 'dist/shared.cjs'))})
    ${library}
    const draws = () => {
      const before = shared.native().drawsOfThread()
      id()
      return shared.native().drawsOfThread() - before
    }
    id()
    const again = draws()
    page.write({ vmGenerationCounter: 2n })
    console.log(JSON.stringify([again, draws()]))`,
  ])
  if (stdout === '') throw new Error(stderr)
  return JSON.parse(stdout) as [number, number]
}

test('nanoid gives ids of its pool after a restore, so the recipes are needed', async (t) => {
  const draws = await drawsOf(newPath(t), `const { nanoid: id } = await import('nanoid')`)
  t.deepEqual(draws, [0, 0])
})

test('nanoid’s pool is emptied at the first id after a restore by drain in perMachine', async (t) => {
  const draws = await drawsOf(
    newPath(t),
    `const { nanoid } = await import('nanoid')
    const emptied = perMachine(() => drain(() => nanoid()))
    const id = () => (emptied(), nanoid())`,
  )
  t.deepEqual(draws, [0, 1])
})

test('nanoid without a pool draws at each id', async (t) => {
  const draws = await drawsOf(
    newPath(t),
    `const { randomBytes } = await import('node:crypto')
    const { customRandom, urlAlphabet } = await import('nanoid')
    const id = customRandom(urlAlphabet, 21, (size) => randomBytes(size))`,
  )
  // Once more after the restore: the first draw looks, and is repeated.
  t.deepEqual(draws, [1, 2])
})

for (const version of ['v4', 'v7']) {
  test(`uuid’s ${version} has no pool that outlives a restore`, async (t) => {
    const [, draws] = await drawsOf(newPath(t), `const { ${version}: id } = await import('uuid')`)
    t.true(draws >= 1, `${draws}`)
  })
}
