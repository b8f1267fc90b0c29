import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';

/** Where `npm run dev` finds a server. */
const SERVER = 'http://127.0.0.1:8080';

/**
 * Keeps out of the page what it never runs, and what no bundler can know that of: marked's front door,
 * of which only the parts behind it are used, and Vite's preloading for lazy files, of which none has a
 * style sheet or another file to wait for.
 */
const leaner: Plugin = {
  name: 'leaner',
  apply: 'build',
  enforce: 'pre',
  load(id) {
    return id.includes('vite/preload-helper')
      ? 'export const __vitePreload = (load) => load();'
      : undefined;
  },
  transform(code, id) {
    if (!id.endsWith('marked.esm.js')) return undefined;
    const door = code.search(/var (\w+)=new \w+;function \w+\(\w+,\w+\)\{return \1\.parse/);
    const names = ['Lexer', 'Parser', 'Renderer'].map(
      (name) => new RegExp(`\\w+ as ${name}\\b`).exec(code)?.[0],
    );
    if (door < 0 || names.includes(undefined)) throw new Error('marked has another shape now');
    return { code: `${code.slice(0, door)}export{${names.join()}};`, map: null };
  },
};

export default defineConfig({
  plugins: [leaner],
  // Relative, so that the page also works below a path.
  base: './',
  build: {
    target: 'es2022',
    // The page's policy allows neither inline scripts nor data: addresses.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
  },
  server: {
    proxy: {
      // The server refuses an upgrade whose Origin is not its own Host.
      '/ws': { target: SERVER, ws: true, changeOrigin: true, rewriteWsOrigin: true },
    },
  },
  test: {
    include: ['tests/unit/**/*.test.{ts,tsx}'],
    // A test reads the style sheets; otherwise they would be empty.
    css: true,
  },
});
