// One promise only: that the package loads under Jest. Everything else is tested with ava.
module.exports = {
  roots: ['<rootDir>/__test__'],
  testMatch: ['**/*.jest.cjs'],
  testEnvironment: 'node',
  transform: {},
}
