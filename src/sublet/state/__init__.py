"""What outlives a process: unpacked trees and named writable layers. Locked, and safe against
crashes.
"""
