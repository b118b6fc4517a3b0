// Medians and quartiles.

// The figure below which this share of them lies.
function quantile(figures, share) {
  const sorted = [...figures].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
}

/** The middle one. */
export function median(figures) {
  return quantile(figures, 0.5)
}

/** What half of them lie between. */
export function quartiles(figures) {
  return [quantile(figures, 0.25), quantile(figures, 0.75)]
}
