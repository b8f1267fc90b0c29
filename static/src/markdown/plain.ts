/** Markdown as it is read aloud: its words, without its signs. */

import { Lexer, type Token } from 'marked';

export function plainText(markdown: string): string {
  return Lexer.lex(markdown)
    .map(textOf)
    .filter((text) => text !== '')
    .join('\n');
}

function textOf(token: Token): string {
  if (token.type === 'list') return (token['items'] as Token[]).map(textOf).join('\n');
  if (token.type === 'table') {
    const rows = [token['header'], ...(token['rows'] as unknown[])] as { text: string }[][];
    return rows.map((cells) => cells.map(({ text }) => text).join(', ')).join('\n');
  }
  if ('tokens' in token && token.tokens) return token.tokens.map(textOf).join('');
  if (token.type === 'space' || token.type === 'def' || token.type === 'hr') return '';
  return 'text' in token ? String(token['text']) : '';
}
