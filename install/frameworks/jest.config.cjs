module.exports = { testMatch: ['<rootDir>/*.jest.cjs'], testEnvironment: 'node', transform: {} }
