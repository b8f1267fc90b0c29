/** The wall between what a model writes and the page: only what is named here passes. */

import DOMPurify from 'dompurify';

const ALLOWED_TAGS = (
  'a blockquote br code del em h2 h3 h4 h5 h6 hr kbd li ol p pre span strong sub sup ' +
  'table tbody td th thead tr ul'
).split(' ');

// No ALLOWED_URI_REGEXP: it would be asked about `align`, `start` and `title` too. See the hook.
const ALLOWED_ATTR = ['align', 'class', 'href', 'rel', 'start', 'target', 'title'];

/** A language's name, and the highlighter's scopes, which are one or two levels deep. */
const ALLOWED_CLASS = /^(?:language-[\w+#-]*|hljs-[\w-]+|[a-z]+_{1,3})$/;

const ALLOWED_HREF = /^(?:https?:|mailto:)/i;

DOMPurify.addHook('afterSanitizeAttributes', (element) => {
  for (const name of element.classList) {
    if (!ALLOWED_CLASS.test(name)) element.classList.remove(name);
  }
  if (element.tagName !== 'A') return;
  if (ALLOWED_HREF.test(element.getAttribute('href') ?? '')) {
    element.setAttribute('rel', 'noopener noreferrer nofollow');
    element.setAttribute('target', '_blank');
  } else {
    element.removeAttribute('href');
  }
});

export function sanitise(html: string): DocumentFragment {
  return DOMPurify.sanitize(html, { ALLOWED_TAGS, ALLOWED_ATTR, RETURN_DOM_FRAGMENT: true });
}
