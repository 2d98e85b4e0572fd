/*
Package wire is LDAP messages as bytes. It knows no sockets but those that its
Writer is given, and nothing else of appbind.

# Frames

A frame is one LDAPMessage of RFC 4511 4.1.1 as it came: a SEQUENCE of message
ID, operation and controls. Reader cuts a stream into frames and Parse finds the
three parts in place. To forward a frame, Message.AppendTo writes it under
another message ID; operation and controls are copied as they are. What is
written new (ID and outer length) has the shortest form.

The slices of a Message, and all that is decoded from it, are parts of the
reader's buffer and valid until its next call. Their capacity ends with them, so
that appending to one never writes into its neighbour.

# The order of steps

	Reader.Next          the outer tag and length within the limit; Parse
	Message.ValidateRequest, ValidateResponse
	Decode...            what a handler needs of the body
	... Append           a body made new, AppendMessage around it
	Writer.Append, Flush

# What is validated

Of a request everything that its ASN.1 says: ID in 1..2^31-1, a known operation,
each tag, length, number and order of elements, enumerations in their range,
filters down to their leaves, and the frame of up to 16 controls; nothing may be
left over. A bind's version is 1..127: answering what is not 2 or 3 is left to the
caller, and so is an authentication choice that is neither simple nor SASL
(BindRequest.SASL). Attribute descriptions are not empty, but an attribute
selection may hold an empty one, since clients send it and it selects nothing.

Of a response what is relied on: the result, a reference, an intermediate
response and the controls completely; of an entry the DN and the list of
attributes, not the values.

# What is never decoded

Values of attributes, controls, extended requests and SASL credentials;
assertion values; DNs, but by ParseDN when asked. They are neither checked nor
changed. Characters of LDAPStrings are not checked to be UTF-8, but in ParseDN.

# BER

The subset of RFC 4511 5.1, read as others write it. Lengths may be padded up to
four octets behind the first (Windows always writes 84 00 00 00 nn) and integers
up to four octets; any octet but 0 is TRUE. The indefinite form, tags of more than
one octet and constructed strings are refused.

# Limits

	MaxBeforeBind, MaxAfterBind, MaxFromUpstream   octets of a message, set per Reader
	MaxNesting, MaxFilterNodes                     of a filter
	MaxControls                                    of a message
	MaxDN, MaxRDNs                                 of a DN
	MaxPassword                                    named here, kept where passwords are judged

A reader's buffer grows with the octets that have come, at most to twice as
many, never with a length that was only declared; an idle connection holds
nothing for reading and writing, but for what TLS keeps. Checking does not allocate and does not
recurse.

# Security

A malformed frame ends the client that sent it: after ErrMalformed or ErrTooLarge
the stream is out of step. A filter is expanded (AppendExpandedFilter) on its
encoding, so no character of a name can change its structure. Two spellings of
one DN have one Key as far as is known here, but a directory knows more (its
schema, Unicode preparation): decide by the DN that the directory returned.
*/
package wire
