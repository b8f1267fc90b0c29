/** A block of Markdown as HTML, which is still to be sanitised. */

import { Parser, Renderer, type Tokens } from 'marked';
import type { Block } from './blocks';
import { highlight } from './highlight';

/** A message has a heading of its own above those of its text. */
const HEADINGS_ABOVE = 1;

/** HTML that passes: it is written in Markdown now and then, and can do nothing. */
const HARMLESS_TAG = /^<(?:br ?\/?|\/?(?:kbd|sub|sup))>$/;

/** HTML of a block; a `growing` one may have more text to come. */
export function renderBlock({ token }: Block, growing: boolean): string {
  return Parser.parse([token], { renderer: growing ? GROWING : COMPLETE });
}

class MessageRenderer extends Renderer {
  constructor(private readonly growing: boolean) {
    super();
  }

  override heading({ tokens, depth }: Tokens.Heading): string {
    const level = Math.min(depth + HEADINGS_ABOVE, 6);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
  }

  // As text, and not left to the sanitiser, which would take `Vec<String>` for a tag.
  override html({ text, block }: Tokens.HTML | Tokens.Tag): string {
    const html = HARMLESS_TAG.test(text.trim()) ? text : escapeHtml(text);
    return block ? `<p>${html.trim()}</p>\n` : html;
  }

  override code(token: Tokens.Code): string {
    return renderCode(token, this.growing);
  }

  // A remote image would tell its server that, and when, the chat was read.
  override image({ href, title, text }: Tokens.Image): string {
    const hint = title ? ` title="${escapeHtml(title)}"` : '';
    return `<a href="${escapeHtml(href)}"${hint}>${escapeHtml(text || href)}</a>`;
  }

  override checkbox({ checked }: Tokens.Checkbox): string {
    return checked ? '☑ ' : '☐ ';
  }
}

function renderCode({ raw, text, lang }: Tokens.Code, growing: boolean): string {
  const language = lang?.match(/^\S+/)?.[0].toLowerCase() ?? '';
  const complete = !growing || isClosedFence(raw);
  const coloured = language === '' ? undefined : highlight(text, language, complete);
  const html = coloured ? coloured.html + escapeHtml(coloured.rest) : escapeHtml(text);
  const name = language.replaceAll(/[^\w+#-]/g, '');
  return `<pre><code class="language-${name}">${html}</code></pre>`;
}

function isClosedFence(raw: string): boolean {
  return /\n {0,3}(?:`{3,}|~{3,})\s*$/.test(raw);
}

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"']/g, (char) => ENTITIES[char] ?? char);
}

const COMPLETE = new MessageRenderer(false);
const GROWING = new MessageRenderer(true);
