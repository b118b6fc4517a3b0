// Measures one import of the package by its name, and the time from open to the first stamp.
//
//   start-up.mjs PAGE

const [page] = process.argv.slice(2)
const before = performance.now()
const { VmClock } = await import('vmclock')
const imported = performance.now()
const clock = VmClock.open(page)
clock.nowNs()
const stamped = performance.now()
process.stdout.write(
  JSON.stringify({
    'import ms': [imported - before],
    'first stamp ms': [stamped - imported],
    'memory KiB': [process.memoryUsage().rss / 1024],
  }),
)
