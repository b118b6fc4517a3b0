// Makes the README of the packed package: its files lie in the repository, so its links name them there.

/**
 * Returns a README whose relative links and pictures are those of the repository at a release's tag.
 *
 * @param text the README of the repository
 * @param manifest the root package's manifest, of which `repository` and `version` count
 */
export function packedReadme(text, { repository, version }) {
  const base = repository.url.replace(/^git\+/, '').replace(/\.git$/, '')
  // Pictures are loaded from `raw`, which gives the file itself.
  return text.replaceAll(/(!?)(\[[^\]]*\]\()(?!https?:|#)([^)]+)\)/g, (_, picture, label, path) => {
    const kind = picture === '' ? 'blob' : 'raw'
    return `${picture}${label}${base}/${kind}/v${version}/${path})`
  })
}
