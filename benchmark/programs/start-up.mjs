// Measures one import of the package by its name, the time from open to the first stamp, and what later calls of
// open take: of a page, and of the page that the process keeps itself.
//
//   start-up.mjs PAGE

const [page] = process.argv.slice(2)
const before = performance.now()
const { VmClock } = await import('vmclock')
// The addon loads at its first use, which belongs to the import here.
VmClock.isSupported()
const imported = performance.now()
const clock = VmClock.open(page)
clock.nowNs()
const stamped = performance.now()
const memoryKiB = process.memoryUsage.rss() / 1024

/** Returns the milliseconds that a call of open takes, with its first stamp. The clock stays open. */
function timed(...args) {
  const start = performance.now()
  VmClock.open(...args).nowNs()
  return performance.now() - start
}
const OWN = { source: 'process', allowUntrustedCounter: true }

process.stdout.write(
  JSON.stringify({
    'import ms': [imported - before],
    'first stamp ms': [stamped - imported],
    'page ms': Array.from({ length: 5 }, () => timed(page)),
    'first own ms': [timed(OWN)],
    'later own ms': [timed(OWN)],
    'memory KiB': [memoryKiB],
  }),
)
// The garbage collector must not close a clock while another is measured.
clock.close()
