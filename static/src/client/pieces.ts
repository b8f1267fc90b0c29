/** What was found in a text. */

import { wordsOf } from './search';

export interface Piece {
  /** Where it begins in the text. */
  at: number;
  text: string;
  isFound: boolean;
}

/** A text in pieces, in order: what the query's words found, and what is between. The last may be a beginning. */
export function piecesOf(text: string, query: string): Piece[] {
  const words = wordsOf(query);
  const last = words.at(-1);
  const pieces: Piece[] = [];
  let at = 0;
  const add = (piece: string, isFound: boolean) => {
    const before = pieces.at(-1);
    if (before && !isFound && !before.isFound) before.text += piece;
    else if (piece !== '') pieces.push({ at, text: piece, isFound });
    at += piece.length;
  };
  // Its words, and what is between them.
  for (const part of text.split(/([\p{Alphabetic}\p{N}]+)/u)) {
    const lower = part.toLowerCase();
    const begins = last !== undefined && lower.startsWith(last);
    const isWhole = words.includes(lower);
    // Some letters are longer in lower case: there, the whole word is marked.
    const isCut = begins && !isWhole && lower.length === part.length;
    const found = isCut ? last.length : begins || isWhole ? part.length : 0;
    add(part.slice(0, found), true);
    add(part.slice(found), false);
  }
  return pieces;
}
