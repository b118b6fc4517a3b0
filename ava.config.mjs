export default {
  files: ['__test__/**/*.spec.ts'],
  extensions: { ts: 'module' },
  nodeArguments: ['--import', './__test__/register.mjs'],
  // An emulated Node cannot start a second Node by its own path, so the workers are threads.
  workerThreads: true,
  timeout: '2m',
}
